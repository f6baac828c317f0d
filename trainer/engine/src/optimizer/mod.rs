//! Updates of parameters and slots from the mean gradient, over flat slices in plain Rust: an optimizer's state is
//! then ordinary state that can be saved, sent and compared. Every element is computed by itself, with no reduction
//! and no fused multiply-add, so any vector width gives the same bits.

mod adamw;
mod sgd;

use crate::layout::Layout;
use trainctl_jobs::OptimizerSpec;

/// What one update takes besides the state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Update {
    /// Counted from 0.
    pub(crate) step: u64,
    /// The schedule's share of the peak learning rate.
    pub(crate) share_of_peak: f64,
    /// Turns the sum over shards into the clipped mean gradient.
    pub(crate) gradient_scale: f32,
}

/// Zero for subnormal numbers. Without it the moments of a gradient that stays zero decay to the smallest ones, where
/// rounding keeps them for ever, and each then costs the CPU over a hundred cycles at every step.
#[inline(always)]
fn flush(value: f32) -> f32 {
    if value.abs() < f32::MIN_POSITIVE { 0.0 } else { value }
}

/// Names of the slots, as checkpoints call them; PyTorch's where it has one.
pub(crate) fn slot_names(spec: &OptimizerSpec) -> &'static [&'static str] {
    match *spec {
        OptimizerSpec::Adamw { .. } => &["exp_avg", "exp_avg_sq"],
        OptimizerSpec::Sgd { momentum, .. } if momentum != 0.0 => &["momentum_buffer"],
        OptimizerSpec::Sgd { .. } => &[],
    }
}

/// Updates all parameters and slots. `slots` are the slots' regions one after another; `sum` is the sum of the
/// shards' gradients, in the parameters' layout.
pub(crate) fn apply(
    spec: &OptimizerSpec,
    layout: &Layout,
    update: Update,
    parameters: &mut [f32],
    slots: &mut [f32],
    sum: &[f32],
) {
    match *spec {
        OptimizerSpec::Adamw { lr, beta1, beta2, eps, weight_decay } => {
            let rates = adamw::Rates::new(lr * update.share_of_peak, [beta1, beta2], eps, update);
            let decay = (1.0 - lr * update.share_of_peak * weight_decay) as f32;
            let (first, second) = slots.split_at_mut(layout.parameters_len);
            for place in &layout.parameters {
                let at = place.offset..place.offset + place.len;
                let decay = if place.decays { decay } else { 1.0 };
                rates.update(
                    decay,
                    &mut parameters[at.clone()],
                    &mut first[at.clone()],
                    &mut second[at.clone()],
                    &sum[at],
                );
            }
        }
        OptimizerSpec::Sgd { lr, momentum, nesterov, weight_decay } => {
            let rates = sgd::Rates::new(lr * update.share_of_peak, momentum, nesterov, update);
            for place in &layout.parameters {
                let at = place.offset..place.offset + place.len;
                let decay = if place.decays { weight_decay as f32 } else { 0.0 };
                let slot = (layout.slots > 0).then(|| &mut slots[at.clone()]);
                rates.update(decay, &mut parameters[at.clone()], slot, &sum[at]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Parameter;
    use crate::model::{Declared, Initial};

    #[test]
    fn moments_of_a_gradient_that_stays_zero_end_at_zero_and_not_among_subnormal_numbers() {
        let specs = [
            OptimizerSpec::Adamw { lr: 0.1, beta1: 0.9, beta2: 0.9, eps: 1e-8, weight_decay: 0.0 },
            OptimizerSpec::Sgd { lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 0.0 },
        ];
        for spec in specs {
            let declared = Declared::new("p", &[16], Initial::Zero);
            let parameter = Parameter { declared: &declared, frozen: false };
            let layout = Layout::new(&[parameter], &[], slot_names(&spec), &[]);
            let mut parameters = vec![1f32; layout.parameters_len];
            let mut slots = vec![0f32; layout.slots * layout.parameters_len];
            let mut sum = vec![1f32; layout.parameters_len];
            for step in 0..1200 {
                let update = Update { step, share_of_peak: 1.0, gradient_scale: 1.0 };
                apply(&spec, &layout, update, &mut parameters, &mut slots, &sum);
                sum.fill(0.0);
                assert!(slots.iter().all(|slot| !slot.is_subnormal()), "step {step}");
            }
            assert!(slots.iter().all(|&slot| slot == 0.0), "{spec:?}");
        }
    }
}
