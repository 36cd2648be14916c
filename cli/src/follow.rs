//! Implements the commands that tell what happens to keys: `audit --follow`, `watch` and `usage`.

use futures::StreamExt as _;
use serde_json::{Value, json};
use tower_authz::store::{AuditQuery, DayUsage, KeyUsage, UsageQuery, Watch};

use crate::{
    Failure, args,
    context::Context,
    output::{self, Rows, note},
    time,
};

impl Context {
    /// Prints each audit record that comes. Without a number to begin after, the last few are printed first.
    pub(crate) async fn follow(&self, audit: &args::Audit) -> Result<(), Failure> {
        let begin = match audit.after {
            Some(number) => number,
            None => {
                let last = self.store.audit(&AuditQuery::new().limit(audit.limit)).await?;
                last.last().map_or(0, |oldest| oldest.number.saturating_sub(1))
            }
        };
        let mut log = self.store.follow_audit(begin);
        while let Some(record) = log.next().await {
            let record = record?;
            match self.json {
                true => output::json_line(&output::to_json(&record)?)?,
                false => output::line(
                    output::audit_cells(&record).iter().map(|cell| output::plain(cell)).collect::<Vec<_>>().join("\t"),
                )?,
            }
        }
        Ok(())
    }

    /// Tells of keys that expire soon, or that nobody uses.
    pub(crate) async fn watch(&self, args: &args::Watch) -> Result<(), Failure> {
        let mut watch = Watch::new();
        if let Some(time) = &args.expiring {
            watch = watch.expiring_within(time::length(time)?);
        }
        if let Some(time) = &args.unused {
            watch = watch.unused_for(time::length(time)?);
        }
        let every = time::length(&args.every)?;
        loop {
            let events = match watch.events(&*self.store).await {
                Err(error) if !args.once => {
                    note(format!("warning: {error}; trying again in {}", args.every));
                    Vec::new()
                }
                events => events?,
            };
            for event in events {
                let key = event.key();
                if self.json {
                    output::json_line(&json!({ "event": event.name(), "key": output::to_json(&**key)? }))?;
                    continue;
                }
                let owner = key.metadata().owner().unwrap_or("-");
                let (ends, used) = (time::ends(key.expires_at()), time::shown(key.last_used()));
                let (name, id) = (output::plain(key.name()), key.id());
                output::line(format!(
                    "{}\t{id}\t{name}\t{}\t{ends}\tlast used {used}",
                    event.name(),
                    output::plain(owner)
                ))?;
            }
            if args.once {
                return Ok(());
            }
            std::thread::sleep(every);
        }
    }

    pub(crate) async fn usage(&self, args: &args::Usage) -> Result<(), Failure> {
        let mut query = UsageQuery::new();
        if let Some(id) = &args.id {
            self.assert_no_secret(id).await?;
            query = query.key(id.clone());
        }
        if let Some(since) = &args.since {
            // A day stands for itself, and a span for the time that long ago.
            query = query.since(time::ago(since).or_else(|_| time::from_now(since))?);
        }
        let usage = self.store.usage(&query).await?;
        if self.json {
            return output::json(&json!({ "usage": usage.iter().map(usage_json).collect::<Vec<_>>() }));
        }
        let columns = ["KEY", "DAY", "ALLOWED", "REFUSED", "CAUSES", "LAST USED", "FROM", "BY"];
        let mut rows = Rows::new(&columns)?;
        let is_empty = usage.is_empty();
        for key in usage {
            let last = key.last.as_ref();
            let from = [
                time::shown(last.map(|last| last.at)),
                last.and_then(|last| last.address).map_or("-".to_owned(), |address| address.to_string()),
                last.and_then(|last| last.source.clone()).unwrap_or_else(|| "-".to_owned()),
            ];
            let days: Vec<(String, DayUsage)> = if args.days {
                key.days.iter().map(|day| (shown_day(day), day.clone())).collect()
            } else {
                vec![("-".to_owned(), total(&key))]
            };
            for (name, day) in days {
                let causes: Vec<String> = day.refused.iter().map(|(cause, count)| format!("{cause}={count}")).collect();
                let causes = if causes.is_empty() { "-".to_owned() } else { causes.join(" ") };
                let refused: u64 = day.refused.values().sum();
                let cells = [key.key.to_string(), name, day.allowed.to_string(), refused.to_string(), causes];
                rows.push(cells.into_iter().chain(from.clone()).collect())?;
            }
        }
        rows.finish()?;
        if is_empty {
            note("nothing was counted on these days; servers write their counts down within a minute");
        }
        Ok(())
    }
}

fn total(usage: &KeyUsage) -> DayUsage {
    usage.days.iter().fold(DayUsage::default(), |mut total, day| {
        total.allowed += day.allowed;
        day.refused.iter().for_each(|(cause, count)| *total.refused.entry(cause.clone()).or_default() += count);
        total
    })
}

fn shown_day(day: &DayUsage) -> String {
    time::shown(Some(day.begin())).chars().take(10).collect()
}

fn usage_json(usage: &KeyUsage) -> Value {
    let last = usage
        .last
        .as_ref()
        .map(|last| json!({ "at": time::json(last.at), "address": last.address, "source": last.source }));
    let day = |day: &DayUsage| json!({ "day": shown_day(day), "allowed": day.allowed, "refused": day.refused });
    json!({
        "key": usage.key.as_str(),
        "allowed": usage.allowed(),
        "refused": usage.refused(),
        "last": last,
        "days": usage.days.iter().map(day).collect::<Vec<_>>(),
    })
}
