//! AdamW (Loshchilov and Hutter, 2019), in the order of operations of PyTorch's.

use super::{Update, flush};

/// One update's constants.
pub(super) struct Rates {
    gradient_scale: f32,
    beta1: f32,
    one_less_beta1: f32,
    beta2: f32,
    one_less_beta2: f32,
    eps: f32,
    /// Learning rate over the first moment's bias correction.
    step_size: f32,
    /// Inverse root of the second moment's bias correction.
    root_correction: f32,
}

impl Rates {
    pub(super) fn new(lr: f64, [beta1, beta2]: [f64; 2], eps: f64, update: Update) -> Self {
        let t = (update.step + 1) as f64;
        Self {
            gradient_scale: update.gradient_scale,
            beta1: beta1 as f32,
            one_less_beta1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            one_less_beta2: (1.0 - beta2) as f32,
            eps: eps as f32,
            step_size: (lr / (1.0 - libm::pow(beta1, t))) as f32,
            root_correction: (1.0 / (1.0 - libm::pow(beta2, t)).sqrt()) as f32,
        }
    }

    /// One tensor; `decay` is the factor of its decoupled weight decay.
    pub(super) fn update(
        &self,
        decay: f32,
        parameters: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
        sum: &[f32],
    ) {
        for (((p, m), v), &sum) in parameters.iter_mut().zip(first).zip(second).zip(sum) {
            let g = sum * self.gradient_scale;
            *m = flush(self.beta1 * *m + self.one_less_beta1 * g);
            *v = flush(self.beta2 * *v + self.one_less_beta2 * (g * g));
            let root = v.sqrt() * self.root_correction + self.eps;
            *p = *p * decay - self.step_size * (*m / root);
        }
    }
}
