//! A request whose handler runs: what ends it, and what becomes of its response.

use std::sync::Arc;

use http::{Request, Response};

use crate::{
    body,
    credential::Notice,
    denial::{self, Cause, Denial, Form},
    gate::sharded::Shard,
    key::{EndReason, KeyRecord, RevocationWatch},
    principal::Obligation,
    reject::Reject,
    require::raised_or_unmet,
};

/// The state of a request while its handler runs.
pub(super) struct InFlight<R> {
    config: Arc<Shard<R>>,
    /// Watches the key of the request. `None` on a public route.
    watch: Option<RevocationWatch>,
    pub(super) obligation: Option<Obligation>,
    pub(super) notice: Option<Arc<Notice>>,
    bearer: bool,
    form: Form,
}

impl<R> InFlight<R> {
    pub(super) fn new<B>(
        config: &Arc<Shard<R>>,
        request: &Request<B>,
        record: Option<Arc<KeyRecord>>,
        bearer: bool,
    ) -> Self {
        let form = Form::from_request(request);
        let watch = record.map(|record| {
            let watch = RevocationWatch::new(record);
            if config.clock.is_none() { watch } else { watch.without_clock() }
        });
        Self { config: Arc::clone(config), watch, obligation: None, notice: None, bearer, form }
    }

    /// The watch, unless requests may finish after their key has ended.
    pub(super) fn watch(&mut self) -> Option<&mut RevocationWatch> {
        self.watch.as_mut().filter(|_| !self.config.finish_in_flight)
    }

    #[inline]
    pub(super) fn end(&mut self) -> Option<EndReason> {
        let watch = self.watch.as_ref().filter(|_| !self.config.finish_in_flight)?;
        watch.end_by(|record| self.config.now(record))
    }

    #[cold]
    pub(super) fn refuse<B: 'static>(&self, denial: Denial) -> Response<B>
    where
        R: Reject<B>,
    {
        let key = self.watch.as_ref().map(|watch| watch.record().id().clone());
        let context = denial::Context { key, bearer: self.bearer, ..denial::Context::default() };
        with_notice(self.config.refuse(denial.in_context(context), self.form), self.notice.as_deref())
    }

    /// Turns the handler's response into the response that is sent.
    pub(super) fn finish_response<B: 'static>(&mut self, response: &mut Response<B>)
    where
        R: Reject<B>,
    {
        // The key may have been revoked while the handler ran. Discard the response then.
        if let Some(end) = self.end() {
            *response = self.refuse(Cause::from(end).into());
            return;
        }
        if self.config.enforces_policy
            && let Some(denial) = raised_or_unmet(response, self.obligation.as_ref())
        {
            *response = self.refuse(denial);
            return;
        }
        if !self.config.finish_in_flight {
            body::end_stream(response, &mut self.watch);
        }
        if let Some(notice) = &self.notice {
            notice.write(response.headers_mut());
            notice.keep_from_caches(response.headers_mut());
        }
    }
}

/// Adds `Deprecation` and `Sunset` for a client that used a deprecated source.
pub(super) fn with_notice<B>(mut response: Response<B>, notice: Option<&Notice>) -> Response<B> {
    if let Some(notice) = notice {
        notice.write(response.headers_mut());
    }
    response
}
