//! The whole of a dense decoder.

use std::sync::Arc;

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Embedding, Linear};
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_peft::config::TaskType;
use burn_peft::{Adaptable, BaseLayer, LoraAdapter, Path, Slot, Tree};
use burn_peft_kernels::apply_dropout;

use super::layout::ModelPart;
use super::walk::{Shown, linear, named_parts};
use super::{Block, DenseConfig, Switches};
use crate::config::ModelConfig;
use crate::decoder::{Decoder, Pass, Places, changed_by_decoder, decoder_fields};
use crate::heads::head_dropout;
use crate::parts::{Norm, Scaling, Xielu, random_embedding, scaled};
use crate::weights::NamedTensor;
use crate::{ModelInput, Result};

/// A decoder of any of the families that differ by switches, with its language-model head
/// (transformers' `LlamaForCausalLM` and similar classes), with a classifier's in its place
/// (`LlamaForSequenceClassification`, `LlamaForTokenClassification`), or without a head
/// (`LlamaModel`), in which case names lack the path of the base.
#[derive(Module, Debug)]
pub struct DenseForCausalLM {
    base: DenseModel,
    /// Dropout before the head of a token classifier.
    dropout: Option<Dropout>,
    head: Option<LoraAdapter<Linear>>,
    #[module(skip)]
    config: DenseConfig,
    #[module(skip)]
    embedding_path: String,
}

/// Embeddings, blocks and the last norm (`LlamaModel` and similar classes).
#[derive(Module, Debug)]
pub struct DenseModel {
    embedding: LoraAdapter<Embedding>,
    dropout: Dropout,
    blocks: Vec<Block>,
    norm: Norm,
    rotary: Rotary,
    #[module(skip)]
    switches: Arc<Switches>,
}

/// The rotary embedding, which is printed but has no weights.
#[derive(Module, Debug)]
pub struct Rotary {}

burn_peft::no_slots! {
    Rotary => |_this| Tree::Empty,
}

named_parts! {
    DenseModel, |layout| layout.base_class, ModelPart, model, [],
    Embedding => embedding, EmbeddingDropout => dropout, Blocks => blocks, Norm => norm,
    Rotary => rotary,
}

impl DenseForCausalLM {
    fn switches(&self) -> &Switches {
        &self.base.switches
    }

    /// The name of the head.
    fn head_name(&self) -> &'static str {
        let is_classifier = self.config.family() == "gpt_neox";
        match self.config.head().task {
            TaskType::TokenCls if is_classifier => "classifier",
            TaskType::SeqCls | TaskType::TokenCls => "score",
            _ => self.switches().layout.head,
        }
    }
}

/// Runs `inside` with a name appended to the path, or with the same path.
fn within(path: &mut Path, name: &str, inside: impl FnOnce(&mut Path)) {
    if name.is_empty() {
        inside(path);
    } else {
        path.within(name, inside);
    }
}

impl Adaptable for DenseForCausalLM {
    fn visit_slots(&self, path: &mut Path, visit: &mut dyn FnMut(&str, &dyn Slot)) {
        within(path, self.config.base_path(), |path| {
            self.base.visit_slots(path, &mut *visit);
        });
        path.within(self.head_name(), |path| self.head.visit_slots(path, visit));
    }

    fn visit_slots_mut(&mut self, path: &mut Path, visit: &mut dyn FnMut(&str, &mut dyn Slot)) {
        let (base_path, head) = (self.config.base_path(), self.head_name());
        let base = &mut self.base;
        within(path, base_path, |path| {
            base.visit_slots_mut(path, &mut *visit)
        });
        path.within(head, |path| self.head.visit_slots_mut(path, visit));
    }

    fn tree(&self) -> Tree {
        let layout = self.switches().layout;
        let tied = || {
            let [rows, d] = self.base.embedding.base_layer.dims();
            Tree::linear(d, rows, false)
        };
        let head = self.head.as_ref().map_or_else(tied, Adaptable::tree);
        // If there are several names, all but the first name parts of a model that has other parts
        // too.
        let mut names = layout.base.split('.').rev();
        let last = names.next().unwrap_or_default();
        let base = names.fold((last, self.base.tree()), |inner, name| {
            (name, Tree::node(format!("{}Model", layout.class), [inner]))
        });
        if self.config.head().is_none() {
            return base.1;
        }
        let dropout = self.dropout.as_ref().map_or(Tree::Empty, Adaptable::tree);
        let children = [base, ("dropout", dropout), (self.head_name(), head)];
        let class = self.config.class_of_head();
        let class = class.unwrap_or_else(|| format!("{}{}", layout.class, layout.model_class));
        Tree::node(class, children)
    }

    fn model_type(&self) -> &str {
        self.config.family()
    }

    fn input_embedding(&self) -> &str {
        &self.embedding_path
    }

    fn output_embedding(&self) -> &str {
        if self.config.head().predicts_tokens() {
            self.switches().layout.head
        } else {
            ""
        }
    }

    changed_by_decoder!();
}

impl Decoder for DenseForCausalLM {
    type Config = DenseConfig;
    type Block = Block;

    fn new(config: &DenseConfig, device: &Device) -> Self {
        let switches = config.shared_switches();
        let d = switches.hidden_size;
        let rows = [switches.vocab_size, d];
        let embedding = random_embedding(rows, switches.initializer_range, device);
        let blocks = switches.layers.iter();
        let blocks = blocks.map(|&layer| Block::new(&switches, layer, device));
        let task = config.head();
        let head = || {
            let (outputs, bias) = match task.task {
                TaskType::SeqCls => (task.num_labels(), false),
                TaskType::TokenCls => (task.num_labels(), true),
                _ => (switches.vocab_size, switches.head_bias),
            };
            linear([d, outputs], bias, &switches, device)
        };
        Self {
            head: (!task.is_none() && (!switches.tied || task.classifies())).then(head),
            dropout: head_dropout(task.task, &config.to_map()),
            embedding_path: config.path_of(&switches.layout.embedding()),
            config: config.clone(),
            base: DenseModel {
                embedding,
                dropout: DropoutConfig::new(switches.embedding_dropout).init(),
                blocks: blocks.collect(),
                norm: switches.new_norm(d, device),
                rotary: Rotary {},
                switches,
            },
        }
    }

    decoder_fields!(base.embedding, head);

    fn head_dropout(&self) -> &Option<Dropout> {
        &self.dropout
    }

    fn blocks(&self) -> &[Block] {
        &self.base.blocks
    }

    fn final_norm(&self, hidden: Tensor<2>) -> Tensor<2> {
        self.base.norm.forward(hidden)
    }

    fn embed_tokens(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        scaled(
            self.base.embedding.forward(ids),
            self.switches().embedding_scale,
        )
    }

    fn after_embedding(&self, embedded: Tensor<2>) -> Tensor<2> {
        let embedded = scaled(embedded, self.switches().input_scale);
        apply_dropout(&self.base.dropout, embedded)
    }

    fn pass(&self, input: &ModelInput, past: usize, cached: bool) -> Pass {
        let switches = self.switches();
        let (ropes, positions) = Places::of(input, past).rotations(&switches.ropes);
        Pass {
            ropes,
            query_growth: switches.query_growth.map(|growth| growth.of(positions)),
            ..Pass::new(input, past, cached)
        }
    }

    fn longest_cached(&self) -> Option<usize> {
        let switches = self.switches();
        let mut lengths = switches.ropes.iter().filter_map(|rope| match rope.scaling {
            Scaling::LongRope { original, .. } => Some(original),
            _ => None,
        });
        lengths.next().filter(|_| switches.forgets_short)
    }

    fn computes_alike(&self, a: usize, b: usize) -> bool {
        let mut ropes = self.switches().ropes.iter();
        ropes.all(|rope| !rope.depends_on_length() || rope.frequencies(a) == rope.frequencies(b))
    }

    fn logit_scale(&self) -> f64 {
        self.switches().logit_scale
    }

    fn logit_cap(&self) -> Option<f64> {
        self.switches().logit_cap
    }

    fn initial_value(_: &DenseConfig, name: &str) -> Option<f32> {
        let is_learnt = name.ends_with(".alpha_p") || name.ends_with(".alpha_n");
        is_learnt.then(|| Xielu::initial(name))
    }

    fn empty_row(config: &DenseConfig, name: &str) -> Option<usize> {
        let switches = config.switches();
        let embedding = config.path_of(&format!("{}.weight", switches.layout.embedding()));
        switches.empty_row().filter(|_| name == embedding)
    }

    /// transformers keeps the constants of xIELU beside its parameters.
    fn buffers(&self) -> Vec<NamedTensor<'static>> {
        let of_block = |(index, block): (usize, &Block)| {
            let path = self
                .config
                .path_of(&self.switches().layout.activation(index));
            let learnt = block.mlp.learnt().map(|act| (act.beta, act.eps));
            learnt.map(|(beta, eps)| {
                [("beta", beta), ("eps", eps)].map(|(name, value)| {
                    let data = TensorData::new(vec![value as f32], [0usize; 0]);
                    NamedTensor::from((format!("{path}.{name}"), data))
                })
            })
        };
        let blocks = self.blocks().iter().enumerate();
        blocks.filter_map(of_block).flatten().collect()
    }

    fn set_buffers(&mut self, read: &dyn Fn(&str) -> Result<Option<TensorData>>) -> Result<()> {
        let layout = self.switches().layout;
        for (index, block) in self.base.blocks.iter_mut().enumerate() {
            let Some(act) = block.mlp.learnt_mut() else {
                continue;
            };
            let path = self.config.path_of(&layout.activation(index));
            for (name, place) in [("beta", &mut act.beta), ("eps", &mut act.eps)] {
                let data = read(&format!("{path}.{name}"))?;
                if let Some(value) = data.and_then(|data| data.iter::<f64>().next()) {
                    *place = value;
                }
            }
        }
        Ok(())
    }
}
