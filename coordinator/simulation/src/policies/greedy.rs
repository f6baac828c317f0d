//! Greedy: wait for spot and use it as long as that is safe, then go on demand to the end.

use super::{Place, View, Wish};

pub(super) fn wish(view: &View) -> Wish {
    match view.place {
        Place::OnDemand => Wish::settle(),
        Place::Spot => Wish::to(Place::Spot),
        Place::Idle if view.now_ms as f64 >= view.safe_until_ms() => Wish::settle(),
        Place::Idle if view.spot => Wish::to(Place::Spot),
        Place::Idle => Wish::to(Place::Idle).again(view.safe_until_ms()),
    }
}
