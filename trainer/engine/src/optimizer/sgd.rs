//! Stochastic gradient descent with momentum, plain or Nesterov's, in PyTorch's form (Sutskever et al., 2013, with the
//! learning rate outside the momentum).

use super::{Update, flush};

/// One update's constants.
pub(super) struct Rates {
    gradient_scale: f32,
    lr: f32,
    momentum: f32,
    nesterov: bool,
}

impl Rates {
    pub(super) fn new(lr: f64, momentum: f64, nesterov: bool, update: Update) -> Self {
        Self { gradient_scale: update.gradient_scale, lr: lr as f32, momentum: momentum as f32, nesterov }
    }

    /// One tensor; `decay` is its L2 factor, `slot` its momentum if there is any. A slot starts at zero.
    pub(super) fn update(&self, decay: f32, parameters: &mut [f32], slot: Option<&mut [f32]>, sum: &[f32]) {
        let gradient = |p: f32, sum: f32| sum * self.gradient_scale + decay * p;
        match slot {
            None => {
                for (p, &sum) in parameters.iter_mut().zip(sum) {
                    *p -= self.lr * gradient(*p, sum);
                }
            }
            Some(slot) => {
                for ((p, m), &sum) in parameters.iter_mut().zip(slot).zip(sum) {
                    let g = gradient(*p, sum);
                    *m = flush(self.momentum * *m + g);
                    let direction = if self.nesterov { g + self.momentum * *m } else { *m };
                    *p -= self.lr * direction;
                }
            }
        }
    }
}
