//! The learning rate over the steps. Pure, in `libm`'s arithmetic, so that it has the same bits everywhere.

use trainctl_jobs::ScheduleSpec;

/// The share of the peak learning rate for the update `step`, counted from 0, of `steps`.
///
/// A warm-up of `w` steps takes the shares 1/(w+1), 2/(w+1), ... and the peak comes right after it.
pub(crate) fn share_of_peak(schedule: &ScheduleSpec, step: u64, steps: u64) -> f64 {
    let (ScheduleSpec::Constant { warmup_steps }
    | ScheduleSpec::Cosine { warmup_steps, .. }
    | ScheduleSpec::Step { warmup_steps, .. }) = *schedule;
    if step < warmup_steps {
        return (step + 1) as f64 / (warmup_steps as f64 + 1.0);
    }
    match *schedule {
        ScheduleSpec::Constant { .. } => 1.0,
        ScheduleSpec::Cosine { floor, .. } => {
            let length = steps.saturating_sub(1).saturating_sub(warmup_steps).max(1);
            let progress = ((step - warmup_steps) as f64 / length as f64).min(1.0);
            floor + (1.0 - floor) * 0.5 * (1.0 + libm::cos(std::f64::consts::PI * progress))
        }
        ScheduleSpec::Step { every, gamma, .. } => libm::pow(gamma, (step / every.max(1)) as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_kind_has_the_shape_that_it_promises() {
        let constant = ScheduleSpec::Constant { warmup_steps: 3 };
        let shares: Vec<f64> = (0..5).map(|step| share_of_peak(&constant, step, 5)).collect();
        assert_eq!(shares, [0.25, 0.5, 0.75, 1.0, 1.0]);

        let cosine = ScheduleSpec::Cosine { warmup_steps: 10, floor: 0.1 };
        assert_eq!(share_of_peak(&cosine, 10, 111), 1.0);
        assert!((share_of_peak(&cosine, 60, 111) - 0.55).abs() < 1e-12);
        assert!((share_of_peak(&cosine, 110, 111) - 0.1).abs() < 1e-12);

        let step = ScheduleSpec::Step { warmup_steps: 0, every: 10, gamma: 0.5 };
        assert_eq!([9, 10, 19, 20].map(|at| share_of_peak(&step, at, 100)), [1.0, 0.5, 0.5, 0.25]);
    }

    #[test]
    fn a_warm_up_longer_than_the_run_only_rises() {
        let cosine = ScheduleSpec::Cosine { warmup_steps: 100, floor: 0.0 };
        assert!((0..10).map(|step| share_of_peak(&cosine, step, 10)).is_sorted());
    }

    proptest! {
        #[test]
        fn it_stays_between_zero_and_the_peak(step in 0u64..1000, steps in 1u64..1000, warmup_steps in 0u64..1000,
                                              floor in 0.0f64..=1.0, gamma in 0.0f64..=1.0, every in 1u64..100) {
            for schedule in [
                ScheduleSpec::Constant { warmup_steps },
                ScheduleSpec::Cosine { warmup_steps, floor },
                ScheduleSpec::Step { warmup_steps, every, gamma },
            ] {
                let share = share_of_peak(&schedule, step, steps);
                prop_assert!((0.0..=1.0).contains(&share), "{schedule:?} {share}");
            }
        }
    }
}
