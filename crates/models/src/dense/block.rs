//! A block of a dense decoder.

use std::sync::Arc;

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Device, Tensor};

use super::layout::BlockPart;
use super::walk::{Shown, named_parts};
use super::{Attention, Layer, Mlp, Switches};
use crate::LayerCache;
use crate::decoder::{DecoderBlock, Pass};
use crate::parts::{Norm, scaled};

/// Attention and feed-forward network with residual connections, with norms before, after or both;
/// one after the other or in parallel.
#[derive(Module, Debug)]
pub struct Block {
    attention: Attention,
    pub(super) mlp: Mlp,
    before_attention: Option<Norm>,
    after_attention: Option<Norm>,
    before_mlp: Option<Norm>,
    after_mlp: Option<Norm>,
    shown_dropout: Dropout,
    #[module(skip)]
    switches: Arc<Switches>,
}

named_parts! {
    Block, |layout| layout.block_class, BlockPart, block, [],
    Attention => attention, Mlp => mlp, BeforeAttention => before_attention,
    AfterAttention => after_attention, BeforeMlp => before_mlp, AfterMlp => after_mlp,
    Dropout => shown_dropout,
}

impl Block {
    pub(super) fn new(switches: &Arc<Switches>, layer: Layer, device: &Device) -> Self {
        let norm = |part| {
            let has = switches.layout.has(part);
            has.then(|| switches.new_norm(switches.hidden_size, device))
        };
        Self {
            attention: Attention::new(switches, layer, device),
            mlp: Mlp::new(switches, device),
            before_attention: norm(BlockPart::BeforeAttention),
            after_attention: norm(BlockPart::AfterAttention),
            before_mlp: norm(BlockPart::BeforeMlp),
            after_mlp: norm(BlockPart::AfterMlp),
            shown_dropout: DropoutConfig::new(switches.mlp_dropout).init(),
            switches: Arc::clone(switches),
        }
    }
}

impl DecoderBlock for Block {
    fn forward(&self, input: Tensor<2>, pass: &Pass, cache: LayerCache<'_>) -> Tensor<2> {
        let attended = normed(&self.before_attention, input.clone());
        let fed = self.switches.parallel.then(|| match &self.before_mlp {
            None => attended.clone(),
            norm => normed(norm, input.clone()),
        });
        let attend = |residual| self.attention.forward(attended, residual, pass, cache);
        let hidden = self.onto(input, &self.after_attention, attend);
        let fed = fed.unwrap_or_else(|| normed(&self.before_mlp, hidden.clone()));
        let feed = |residual| self.mlp.forward(fed, residual);
        self.onto(hidden, &self.after_mlp, feed)
    }
}

impl Block {
    /// The output of a part, normed and scaled, added to the residual. If nothing comes between,
    /// this is one operation with the part's last product.
    fn onto(
        &self,
        residual: Tensor<2>,
        after: &Option<Norm>,
        part: impl FnOnce(Option<Tensor<2>>) -> Tensor<2>,
    ) -> Tensor<2> {
        let scale = self.switches.residual_scale;
        if after.is_none() && scale == 1.0 {
            return part(Some(residual));
        }
        let output = normed(after, part(None));
        residual + scaled(output, scale)
    }
}

fn normed(norm: &Option<Norm>, hidden: Tensor<2>) -> Tensor<2> {
    match norm {
        Some(norm) => norm.forward(hidden),
        None => hidden,
    }
}
