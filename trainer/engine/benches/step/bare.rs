//! The loop that a person would write with tch: `nn` layers in a VarStore, `nn::AdamW`, the whole data set in tensors,
//! gradients accumulated over the same micro-batches. It can lose a step, a process and its bits.

use tch::nn::{self, Module, ModuleT, OptimizerConfig};
use tch::{Device, Kind, Reduction, Tensor};
use trainctl_data::{Dataset, Target};
use trainctl_jobs::{JobSpec, ModelSpec, OptimizerSpec};

/// The bare loop of one job.
pub(crate) struct Bare {
    model: Box<dyn Fn(&Tensor) -> Tensor>,
    optimizer: nn::Optimizer,
    inputs: Tensor,
    targets: Tensor,
    order: Tensor,
    next: i64,
    micro_batch: i64,
    shards: i64,
    _store: nn::VarStore,
}

impl Bare {
    /// The job's model and optimizer on the job's data.
    pub(crate) fn new(spec: &JobSpec, data: &Dataset) -> Self {
        tch::manual_seed(1);
        let store = nn::VarStore::new(Device::Cpu);
        let (inputs, targets) = whole(spec, data);
        let model = build(&store.root(), &spec.model, &inputs, data);
        let OptimizerSpec::Adamw { lr, beta1, beta2, eps, weight_decay } = spec.train.optimizer else {
            panic!("the benchmark's jobs use AdamW");
        };
        let adamw = nn::AdamW { beta1, beta2, wd: weight_decay, eps, amsgrad: false };
        let optimizer = adamw.build(&store, lr).expect("build AdamW");
        let shards = i64::from(spec.train.logical_shards);
        Self {
            model,
            optimizer,
            order: Tensor::randperm(inputs.size()[0], (Kind::Int64, Device::Cpu)),
            inputs,
            targets,
            next: 0,
            micro_batch: i64::from(spec.train.global_batch) / shards,
            shards,
            _store: store,
        }
    }

    /// One update.
    pub(crate) fn step(&mut self) -> f64 {
        let mut total = 0.0;
        self.optimizer.zero_grad();
        for _ in 0..self.shards {
            if self.next + self.micro_batch > self.order.size()[0] {
                self.order = Tensor::randperm(self.order.size()[0], (Kind::Int64, Device::Cpu));
                self.next = 0;
            }
            let rows = self.order.narrow(0, self.next, self.micro_batch);
            self.next += self.micro_batch;
            let outputs = (self.model)(&self.inputs.index_select(0, &rows));
            let targets = self.targets.index_select(0, &rows).reshape([-1]);
            let loss = outputs.cross_entropy_loss::<Tensor>(&targets, None, Reduction::Mean, -100, 0.0);
            total += loss.double_value(&[]);
            (loss / self.shards as f64).backward();
        }
        self.optimizer.step();
        total / self.shards as f64
    }
}

fn whole(spec: &JobSpec, data: &Dataset) -> (Tensor, Tensor) {
    if let ModelSpec::Gpt { context, .. } = spec.model {
        let windows: Vec<u64> = (0..data.windows(context)).collect();
        let width = context as usize + 1;
        let mut text = vec![0i64; windows.len() * width];
        data.fill_tokens(&windows, context, &mut text).expect("data in memory");
        let text = Tensor::from_slice(&text).view([-1, width as i64]);
        let context = i64::from(context);
        return (text.narrow(1, 0, context).contiguous(), text.narrow(1, 1, context).contiguous());
    }
    let rows: Vec<u64> = (0..data.rows()).collect();
    let shape: Vec<i64> =
        std::iter::once(rows.len() as i64).chain(data.sample_shape().iter().map(|&n| n.into())).collect();
    let mut features = vec![0f32; shape.iter().product::<i64>() as usize];
    let mut classes = vec![0i64; rows.len()];
    data.fill_features(&rows, &mut features).expect("data in memory");
    data.fill_classes(&rows, &mut classes).expect("data in memory");
    (Tensor::from_slice(&features).view(shape.as_slice()), Tensor::from_slice(&classes))
}

fn build(root: &nn::Path<'_>, spec: &ModelSpec, inputs: &Tensor, data: &Dataset) -> Box<dyn Fn(&Tensor) -> Tensor> {
    match spec {
        ModelSpec::Mlp { hidden, dropout } => {
            mlp(root, hidden, *dropout, inputs.size()[1..].iter().product(), classes(data))
        }
        ModelSpec::Convnet { channels, dropout } => {
            convnet(root, channels, *dropout, &inputs.size()[1..], classes(data))
        }
        ModelSpec::Gpt { layers, heads, width, context, dropout } => {
            gpt(root, *layers, i64::from(*heads), i64::from(*width), i64::from(*context), *dropout)
        }
        ModelSpec::Torchscript { .. } => unreachable!("no job of this benchmark brings its own module"),
    }
}

fn classes(data: &Dataset) -> i64 {
    match data.target() {
        Target::Class { classes, .. } => i64::from(*classes),
        other => panic!("the benchmark's targets are classes, found {other:?}"),
    }
}

fn mlp(root: &nn::Path<'_>, hidden: &[u32], dropout: f64, inputs: i64, classes: i64) -> Box<dyn Fn(&Tensor) -> Tensor> {
    let mut layers = nn::seq_t();
    let mut width = inputs;
    for (i, &next) in hidden.iter().enumerate() {
        layers = layers.add(nn::linear(root / i, width, next.into(), nn::LinearConfig::default())).add_fn(Tensor::relu);
        if dropout > 0.0 {
            layers = layers.add_fn_t(move |x, train| x.dropout(dropout, train));
        }
        width = next.into();
    }
    layers = layers.add(nn::linear(root / "head", width, classes, nn::LinearConfig::default()));
    Box::new(move |x| layers.forward_t(&x.flatten(1, -1), true))
}

fn convnet(
    root: &nn::Path<'_>,
    channels: &[u32],
    dropout: f64,
    shape: &[i64],
    classes: i64,
) -> Box<dyn Fn(&Tensor) -> Tensor> {
    let image = match *shape {
        [height, width] => [1, height, width],
        [channels, height, width] => [channels, height, width],
        _ => panic!("the benchmark's convnet takes images, found {shape:?}"),
    };
    let config = nn::ConvConfig { padding: 1, bias: false, ..nn::ConvConfig::default() };
    let mut layers = nn::seq_t();
    let mut inputs = image[0];
    for (i, &outputs) in channels.iter().enumerate() {
        let at = root / i;
        layers = layers
            .add(nn::conv2d(&at / "conv", inputs, outputs.into(), 3, config))
            .add(nn::batch_norm2d(&at / "norm", outputs.into(), nn::BatchNormConfig::default()))
            .add_fn(|x| x.relu().max_pool2d_default(2));
        inputs = outputs.into();
    }
    let inputs = inputs * (image[1] >> channels.len()) * (image[2] >> channels.len());
    let head = nn::linear(root / "head", inputs, classes, nn::LinearConfig::default());
    Box::new(move |x| {
        head.forward(
            &layers.forward_t(&x.view([-1, image[0], image[1], image[2]]), true).flatten(1, -1).dropout(dropout, true),
        )
    })
}

fn gpt(
    root: &nn::Path<'_>,
    layers: u32,
    heads: i64,
    width: i64,
    context: i64,
    dropout: f64,
) -> Box<dyn Fn(&Tensor) -> Tensor> {
    let tokens = root.randn("tokens", &[256, width], 0.0, 0.02);
    let positions = root.randn("positions", &[context, width], 0.0, 0.02);
    let norm = |at: nn::Path<'_>| nn::layer_norm(at, vec![width], nn::LayerNormConfig::default());
    let linear = |at: nn::Path<'_>, inputs, outputs| nn::linear(at, inputs, outputs, nn::LinearConfig::default());
    let mut blocks = nn::seq_t();
    for i in 0..layers {
        let at = root / i;
        let (norm1, norm2) = (norm(&at / "norm1"), norm(&at / "norm2"));
        let (qkv, out) = (linear(&at / "qkv", width, 3 * width), linear(&at / "out", width, width));
        let (up, down) = (linear(&at / "up", width, 4 * width), linear(&at / "down", 4 * width, width));
        blocks = blocks.add_fn_t(move |x, train| {
            let (samples, tokens) = (x.size()[0], x.size()[1]);
            let qkv =
                norm1.forward(x).apply(&qkv).view([samples, tokens, 3, heads, width / heads]).permute([2, 0, 3, 1, 4]);
            let mixed = Tensor::scaled_dot_product_attention::<Tensor>(
                &qkv.get(0),
                &qkv.get(1),
                &qkv.get(2),
                None,
                dropout,
                true,
                None,
                false,
            );
            let mixed = mixed.transpose(1, 2).reshape([samples, tokens, width]);
            let x = x + mixed.apply(&out).dropout(dropout, train);
            &x + norm2.forward(&x).apply(&up).gelu("none").apply(&down).dropout(dropout, train)
        });
    }
    let last = norm(root / "norm");
    Box::new(move |input| {
        let x = Tensor::embedding(&tokens, input, -1, false, false) + &positions;
        let x = blocks.forward_t(&x.dropout(dropout, true), true);
        last.forward(&x).view([-1, width]).linear::<Tensor>(&tokens, None)
    })
}
