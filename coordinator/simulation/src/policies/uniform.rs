//! Uniform Progress of "Can't Be Late" (Wu et al., NSDI 2024, section 5.2.2), with its hysteresis, from the paper's
//! description. With `cp` the progress made, `ep(t) = t * C(0) / R(0)` the progress that is even over the time to the
//! deadline, and `d` the delay of a change:
//!
//! 1. Idle and `cp < ep(t)`: on demand, to catch up.
//! 2. Spot is there: use it, also when behind, and stay until it is taken.
//! 3. On demand: stay until `cp >= ep(t + 2d)`.
//! 4. Safety net: idle and less than `2d` to spare: on demand to the end.

use super::{Place, View, Wish};

pub(super) fn wish(view: &View) -> Wish {
    if view.settled {
        return Wish::settle();
    }
    match view.place {
        Place::Spot => Wish::to(Place::Spot),
        Place::OnDemand => on_demand(view),
        Place::Idle => idle(view),
    }
}

fn idle(view: &View) -> Wish {
    if view.now_ms as f64 >= view.safe_until_ms() {
        return Wish::settle();
    }
    if view.spot {
        return Wish::to(Place::Spot);
    }
    let Some(deadline_ms) = view.deadline_ms else { return Wish::to(Place::Idle) };
    // Whoever waits is behind right after it was even.
    let behind_ms = view.done_ms * deadline_ms as f64 / view.work_ms;
    if view.now_ms as f64 >= behind_ms.floor() {
        return on_demand(&View { place: Place::OnDemand, ..*view });
    }
    Wish::to(Place::Idle).again(behind_ms.min(view.safe_until_ms()))
}

fn on_demand(view: &View) -> Wish {
    let Some(deadline_ms) = view.deadline_ms else { return Wish::settle() };
    let (even, ahead_ms) = (view.work_ms / deadline_ms as f64, 2.0 * view.delay_ms as f64);
    let ahead_at = |now_ms: f64| (now_ms + ahead_ms) * even;
    if view.done_ms >= ahead_at(view.now_ms as f64) {
        return idle(view);
    }
    // On its way it gains `1 - even` on the even line in each unit of time; a deadline without slack is never gained on.
    let from_ms = view.ready_ms.max(view.now_ms) as f64;
    let catches_up_ms = from_ms + (ahead_at(from_ms) - view.done_ms) / (1.0 - even);
    Wish::to(Place::OnDemand).again(if even < 1.0 { catches_up_ms } else { f64::INFINITY })
}
