//! `/api/v1/processes/{pid}/events`: the operations of a process, one by one, while they happen.

#![allow(unused_qualifications, reason = "in code that utoipa makes of the handlers' parameters")]

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde::Serialize;
use utoipa::ToSchema;
use zc_common::path::Condition;
use zc_common::record::OperationEvent;

use super::super::problem::Problem;
use super::super::streams::{ListenError, Subscription};
use super::App;
use super::processes::no_such_pid;
use super::query::Pid;
use crate::model::Catalogue;

/// Data of an event named `operation`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OperationTold {
    /// When it was counted, in nanoseconds since boot.
    time: u64,
    /// The thread that it was counted for.
    tid: u32,
    /// Its path, of the last of its bytes; null if it could not be classified.
    path: Option<String>,
    /// The condition under which its bytes hop otherwise than usually; null if there is none.
    condition: Option<&'static str>,
    /// 1, or what was counted at once; 0 if it goes on with the one before.
    operations: u32,
    /// Payload.
    bytes: u64,
}

/// Data of an event named `lost`: whenever it is more than it was.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LostTold {
    /// Operations that are missing so far.
    operations: u64,
    /// Of those, for lack of room in the ring.
    ring_full: u64,
    /// And because the client was too slow.
    slow_client: u64,
}

/// Data of the last event, named `end`: the process has ended, or the daemon stops.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EndTold {
    /// Operations that were delivered.
    delivered_operations: u64,
    /// Operations that are missing.
    lost: LostTold,
}

impl LostTold {
    fn of((ring_full, slow_client): (u64, u64)) -> Self {
        Self { operations: ring_full + slow_client, ring_full, slow_client }
    }
}

impl OperationTold {
    fn of(catalogue: &Catalogue, event: &OperationEvent) -> Self {
        let row = u16::try_from(event.cell).ok().and_then(|cell| catalogue.row(cell));
        let condition = row.map(|row| row.condition).filter(|condition| *condition != Condition::Always);
        Self {
            time: event.time,
            tid: event.tid,
            path: row.map(|row| row.id().to_string()),
            condition: condition.map(Condition::name),
            operations: event.operations,
            bytes: event.bytes,
        }
    }
}

/// What a client is being told.
struct Telling {
    app: Arc<App>,
    subscription: Subscription,
    /// What came last, and how much of it has been told.
    batch: Arc<[OperationEvent]>,
    told: usize,
    delivered: u64,
    lost: (u64, u64),
    has_ended: bool,
}

fn event(name: &str, data: &impl Serialize) -> Event {
    // Numbers and names always have JSON.
    Event::default().event(name).json_data(data).unwrap_or_default()
}

impl Telling {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(told) = self.batch.get(self.told) {
                self.delivered += u64::from(told.operations);
                let told = OperationTold::of(&self.app.about.catalogue, told);
                self.told += 1;
                return Some((Ok(event("operation", &told)), self));
            }
            let lost = self.subscription.lost();
            if lost != self.lost && !self.has_ended {
                self.lost = lost;
                return Some((Ok(event("lost", &LostTold::of(lost))), self));
            }
            if self.has_ended {
                return None;
            }
            match self.subscription.next().await {
                Some(batch) => (self.batch, self.told) = (batch, 0),
                None => {
                    self.has_ended = true;
                    let lost = LostTold::of(self.subscription.lost());
                    let end = EndTold { delivered_operations: self.delivered, lost };
                    return Some((Ok(event("end", &end)), self));
                }
            }
        }
    }
}

/// Operations of a process from now on, one event each, until it ends. Page faults are no operations here.
#[utoipa::path(
    get,
    path = "/api/v1/processes/{pid}/events",
    params(("pid" = u32, Path, description = "A process that runs.")),
    responses(
        (status = 200, description = "Server-sent events: `operation`, `lost` and, last, `end`.", body = OperationTold, content_type = "text/event-stream"),
        (status = 404, description = "No such process.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many listen.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn stream_of(State(app): State<Arc<App>>, Pid(pid): Pid) -> Result<Response, Problem> {
    let snapshot = app.fresh().await?;
    let process = snapshot.by_pid(pid).filter(|process| !process.exited).ok_or_else(|| no_such_pid(pid))?;
    let Some(streams) = &app.streams else { return Err(Problem::failed(&"nobody tells operations here")) };
    let subscription = streams.listen(process.key).map_err(|error| match error {
        ListenError::Kernel(_) => Problem::failed(&error),
        ListenError::TooMany | ListenError::Closed => Problem::busy(error.to_string()),
    })?;
    let telling =
        Telling { app, subscription, batch: Arc::default(), told: 0, delivered: 0, lost: (0, 0), has_ended: false };
    let events = stream::unfold(telling, Telling::next);
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}
