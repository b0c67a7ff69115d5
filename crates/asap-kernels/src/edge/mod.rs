//! The mixed edge: `out (+)= sum_o w_o * o(x)`, forward, inference and backward.

mod backward;
mod forward;
mod plan;
mod types;

use std::sync::Arc;

pub use types::{Grads, Images, Mixing, Needs, OpGrads, OpParams, Running, Target};

use crate::buffers::Buffers;
use crate::error::{KernelError, Result};
use crate::norm::{Norm, Stats, WholeBatch};
use crate::simd::Level;
use crate::spec::{EdgeSpec, OpKind, Precision};

use backward::Given;
use forward::{OpNorms, Results, Weighted};
use plan::{Plan, check_mixing};

/// The values of a forward pass that its backward pass needs.
#[derive(Debug)]
pub struct Saved {
    plan: Plan,
    results: Results,
}

/// An edge with running statistics, ready for inference: weights are packed, and the last batch norm and the mixing
/// weight of an operation are one factor and one summand per channel.
#[derive(Debug)]
pub struct Prepared {
    plan: Plan,
    norms: Vec<OpNorms>,
    terms: Weighted,
}

/// A checked edge, ready to run.
#[derive(Debug, Clone)]
pub struct Edge {
    spec: EdgeSpec,
    level: Level,
    precision: Precision,
    buffers: Buffers,
    whole: Option<Arc<dyn WholeBatch>>,
}

impl Edge {
    /// Checks the specification. The SIMD level is the best of this machine for the number of channels; scratch and
    /// results that are kept come from `buffers`, which edges should share.
    ///
    /// # Errors
    /// If no edge has this specification.
    pub fn new(spec: EdgeSpec, buffers: &Buffers) -> Result<Self> {
        spec.check()?;
        let level = Level::best(spec.cout);
        Ok(Self { spec, level, precision: Precision::F32, buffers: buffers.clone(), whole: None })
    }

    /// The same edge with a different precision of [`Edge::forward`] and its backward pass; inference is always in `f32`.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The same edge on images that are a part of a batch: in training, batch norm uses the statistics of all of it, and gradients go through
    /// them. Those of parameters and mixing weights are sums over these images only.
    pub fn with_whole_batch(self, whole: Option<Arc<dyn WholeBatch>>) -> Self {
        Self { whole, ..self }
    }

    /// The same edge on another SIMD level, for comparison.
    pub fn with_level(self, level: Level) -> Self {
        Self { level, ..self }
    }

    /// The specification.
    pub fn spec(&self) -> &EdgeSpec {
        &self.spec
    }

    /// Forward pass in training: batch norm uses the statistics of the batch (biased variance, eps 1e-5), which are
    /// returned with what [`Saved::backward`] needs.
    ///
    /// # Shapes
    /// `x [n, h, w, cin]`, `out [n, ceil(h / stride), ceil(w / stride), cout]`.
    ///
    /// # Errors
    /// If a shape or a number of entries does not fit the specification; nothing is written then.
    pub fn forward(
        &self,
        x: Images<'_>,
        params: &[OpParams<'_>],
        mixing: Mixing<'_>,
        out: Target<'_>,
    ) -> Result<Saved> {
        let mut plan = self.plan(self.precision, [x.n, x.h, x.w], params)?;
        plan.whole.clone_from(&self.whole);
        plan.check(x, out.len())?;
        check_mixing(mixing, plan.ops.len(), x.n)?;
        let affine: Vec<_> = params.iter().map(|p| p.affine.clone()).collect();
        let results = plan.raw(x.data, &affine);
        plan.sum(x.data, &results, mixing, out);
        Ok(Saved { plan, results })
    }

    /// Prepares inference on images of `h` by `w` pixels. `running` holds, per operation, one entry per batch norm;
    /// `weights` the mixing weight of each operation.
    ///
    /// # Errors
    /// If a shape or a number of entries does not fit the specification.
    pub fn prepare(
        &self,
        [h, w]: [usize; 2],
        params: &[OpParams<'_>],
        running: &[Vec<Running<'_>>],
        weights: &[f32],
    ) -> Result<Prepared> {
        let plan = self.plan(Precision::F32, [1, h, w], params)?;
        check_mixing(Mixing { weights, image_weights: None }, plan.ops.len(), 1)?;
        let count = self.spec.ops.len();
        KernelError::check_count(
            || "running statistics".into(),
            "operation",
            count,
            running.len(),
        )?;
        let mut norms = Vec::with_capacity(count);
        for ((op, params), running) in self.spec.ops.iter().zip(params).zip(running) {
            let statistics: Vec<_> = running.iter().map(|r| (r.mean, r.var)).collect();
            norms.push(self.norms(*op, params, &statistics)?);
        }
        let terms = plan.terms(&norms, weights);
        Ok(Prepared { plan, norms, terms })
    }

    /// Checks parameters and size and packs the weights.
    fn plan(
        &self,
        precision: Precision,
        size: [usize; 3],
        params: &[OpParams<'_>],
    ) -> Result<Plan> {
        Plan::new(&self.spec, self.level, precision, &self.buffers, size, params)
    }

    /// The batch norms of an operation from their statistics (mean, variance).
    fn norms(
        &self,
        op: OpKind,
        params: &OpParams<'_>,
        statistics: &[(&[f32], &[f32])],
    ) -> Result<OpNorms> {
        let channels = self.spec.norm_channels(op);
        let what = || format!("statistics of {op}");
        KernelError::check_count(what, "batch norm", channels.len(), statistics.len())?;
        let mut norms = Vec::with_capacity(channels.len());
        for (i, (c, (mean, var))) in channels.iter().zip(statistics).enumerate() {
            KernelError::check_len(|| format!("mean {i} of {op}"), &[*c], mean.len())?;
            KernelError::check_len(|| format!("variance {i} of {op}"), &[*c], var.len())?;
            norms.push(Norm::new(self.level, mean, var, params.affine.get(i).copied()));
        }
        let last = norms.pop();
        Ok(OpNorms { inner: norms.pop(), last })
    }
}

impl Prepared {
    /// The sum of the operations; nothing is kept.
    ///
    /// # Shapes
    /// As in [`Edge::forward`], for any number of images.
    ///
    /// # Errors
    /// If a shape does not fit; nothing is written then.
    pub fn run(&self, x: Images<'_>, out: Target<'_>) -> Result<()> {
        self.plan.check(x, out.len())?;
        self.plan.infer(x, &self.norms, &self.terms, out);
        Ok(())
    }
}

impl Saved {
    /// Statistics of each batch norm of each operation, in the order of [`EdgeSpec::norm_channels`].
    pub fn stats(&self) -> &[Vec<Stats>] {
        &self.results.stats
    }

    /// Backward pass: from the gradient of the output to those of the input (if `dx` is given), of the parameters and
    /// of the mixing weights (as `needs` says). `x` and `mixing` are those of the forward pass.
    ///
    /// # Shapes
    /// `grad_out` as the output of [`Edge::forward`], `dx` as `x`.
    ///
    /// # Errors
    /// As in [`Edge::forward`].
    pub fn backward(
        &self,
        x: Images<'_>,
        mixing: Mixing<'_>,
        grad_out: &[f32],
        needs: Needs,
        dx: Option<Target<'_>>,
    ) -> Result<Grads> {
        let Self { plan, results } = self;
        let shape = [plan.n, plan.h, plan.w, plan.cin];
        KernelError::check_len(|| "input of the edge".into(), &shape, x.data.len())?;
        check_mixing(mixing, plan.ops.len(), plan.n)?;
        let out = plan.n * plan.out_len;
        KernelError::check_len(|| "gradient of the output".into(), &[out], grad_out.len())?;
        if let Some(dx) = &dx {
            KernelError::check_len(|| "gradient of the input".into(), &shape, dx.len())?;
        }
        Ok(plan.backward(Given { x: x.data, results, mixing, grad_out }, needs, dx))
    }
}
