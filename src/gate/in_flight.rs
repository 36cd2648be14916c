//! A request whose handler runs: what ends it, and what becomes of its response.

use std::sync::Arc;

use http::{Request, Response};

use crate::{
    body,
    credential::{self, Notice},
    denial::{self, Cause, Denial, Form, RejectedRequest},
    gate::{apply::PresentedCredential, config::Config, ready::Refused, sharded::Shard},
    key::{EndReason, KeyRecord, RevocationWatch},
    principal::Obligation,
    reject::Reject,
    require::raised_or_unmet,
};

/// The state of a request while its handler runs.
pub(super) struct InFlight {
    /// Watches the key of the request. `None` on a public route.
    watch: Option<RevocationWatch>,
    pub(super) obligation: Option<Obligation>,
    pub(super) notice: Option<Arc<Notice>>,
    bearer: bool,
    /// Whether the handler answers requests without a key, too.
    pub(super) is_optional: bool,
    /// Whether the request runs to its end when its key is revoked.
    pub(super) finishes: bool,
    form: Form,
    /// The request, if the rejection asks for it.
    request: Option<Arc<RejectedRequest>>,
}

impl InFlight {
    /// Nothing is known yet but the form of the response, and the request if it is kept.
    #[inline]
    pub(super) fn new<B>(request: &Request<B>, kept: Option<Arc<RejectedRequest>>) -> Self {
        let form = Form::from_request(request);
        Self {
            watch: None,
            obligation: None,
            notice: None,
            bearer: false,
            is_optional: false,
            finishes: false,
            form,
            request: kept,
        }
    }

    pub(super) fn set_credential(&mut self, presented: &PresentedCredential) {
        (self.bearer, self.notice) = (presented.bearer, presented.notice.clone());
    }

    /// The answer depends on what middleware further outside has read, and caches that many share do not know what that is.
    pub(super) fn set_other(&mut self) {
        self.notice = Some(Notice::of_others());
    }

    /// The request is admitted for as long as this key lives.
    #[inline]
    pub(super) fn watch_key<R>(&mut self, config: &Config<R>, record: Arc<KeyRecord>) {
        let watch = RevocationWatch::new(record);
        self.watch = Some(if config.clock.is_none() { watch } else { watch.without_clock() });
    }

    /// The record of the key, unless the request needed none.
    pub(super) fn record(&self) -> Option<&KeyRecord> {
        self.watch.as_ref().map(|watch| &**watch.record())
    }

    /// The watch, unless requests may finish after their key has ended.
    pub(super) fn watch(&mut self) -> Option<&mut RevocationWatch> {
        self.watch.as_mut().filter(|_| !self.finishes)
    }

    #[inline]
    pub(super) fn end<R>(&self, config: &Config<R>) -> Option<EndReason> {
        let watch = self.watch.as_ref().filter(|_| !self.finishes)?;
        watch.end_by(|record| config.now(record))
    }

    #[cold]
    pub(super) fn refuse<R, B: 'static>(&self, config: &Config<R>, denial: Denial) -> Response<B>
    where
        R: Reject<B>,
    {
        let key = self.watch.as_ref().map(|watch| watch.record().id().clone());
        let context =
            denial::Context { key, bearer: self.bearer, request: self.request.clone(), ..denial::Context::default() };
        let mut response = config.refuse(denial.in_context(context), self.form);
        // A client that used a deprecated source learns of it from a refusal, too.
        if let Some(notice) = &self.notice {
            notice.write(response.headers_mut());
        }
        response
    }

    /// Refuses a request that never was in flight.
    #[cold]
    pub(super) fn refuse_undecided<R, B: 'static>(&self, shard: &Shard<R>, refused: Refused) -> Response<B>
    where
        R: Reject<B>,
    {
        match refused {
            // A rejection that sees the request may answer each in its own way.
            Refused::Constant(constant, route) if self.notice.is_none() && self.request.is_none() => {
                shard.ready.refuse(shard, (constant, route), self.form)
            }
            refused => self.refuse(shard, refused.into_denial()),
        }
    }

    /// Turns the handler's response into the response that is sent.
    pub(super) fn finish_response<R, B: 'static>(&mut self, config: &Config<R>, response: &mut Response<B>)
    where
        R: Reject<B>,
    {
        // The key may have been revoked while the handler ran. Discard the response then.
        if let Some(end) = self.end(config) {
            *response = self.refuse(config, Cause::from(end).into());
            return;
        }
        if config.enforces_policy
            && let Some(denial) = raised_or_unmet(response, self.obligation.as_ref())
        {
            *response = self.refuse(config, denial);
            return;
        }
        if let Some(record) = self.record().filter(|_| config.names_key) {
            let id = record.id().clone();
            response.extensions_mut().insert(id);
        }
        if !self.finishes {
            body::end_stream(response, &mut self.watch);
        }
        if let Some(notice) = &self.notice {
            notice.write(response.headers_mut());
            notice.keep_from_caches(response.headers_mut());
        }
        if self.is_optional {
            credential::vary(response.headers_mut(), config.sources.names());
        }
    }
}
