//! ModernBERT.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Embedding, Linear};
use burn::tensor::{Device, Tensor};
use burn_peft::config::TaskType;
use burn_peft::{Adaptable, LoraAdapter, Path, Slot, Tree};
use burn_peft_kernels::apply_dropout;

use crate::ModelInput;
use crate::decoder::{Decoder, Pass, Places, changed_by_decoder, decoder_fields};
use crate::encoder::{MaskedHead, MaskedNames, padding_row, with_padding_row};
use crate::texts::mean_of_texts;

mod config;
mod model;

pub use config::{ClassifierPooling, LayerType, ModernBertConfig};
pub use model::{
    ModernBertAttention, ModernBertEmbeddings, ModernBertEncoderLayer, ModernBertMLP,
    ModernBertModel, ModernBertRotaryEmbedding, OrIdentity,
};

/// ModernBERT with the head that predicts masked tokens (transformers' `ModernBertForMaskedLM`).
///
/// A classifier (`ModernBertForSequenceClassification`, `ModernBertForTokenClassification`) has
/// another output after the same layer, and a model without a head (`ModernBertModel`) has neither.
#[derive(Module, Debug)]
pub struct ModernBertForMaskedLM {
    /// Everything but the head.
    pub model: ModernBertModel,
    /// The layers before the output, which may score tokens or labels.
    pub head: Option<MaskedHead>,
    /// The output over tokens, unless it is tied to the token embeddings.
    pub decoder: Option<LoraAdapter<Linear>>,
    /// Dropout before the scores of labels.
    pub drop: Dropout,
    /// The scores of labels.
    pub classifier: Option<LoraAdapter<Linear>>,
    #[module(skip)]
    config: ModernBertConfig,
}

/// The names of the layers before the output.
const HEAD: MaskedNames = MaskedNames {
    dense: "head.dense",
    norm: "head.norm",
    bias: "decoder",
    output: "decoder",
};

impl Adaptable for ModernBertForMaskedLM {
    fn visit_slots(&self, path: &mut Path, visit: &mut dyn FnMut(&str, &dyn Slot)) {
        let (name, base) = (self.config.base(), &self.model);
        path.within(name, |path| base.visit_slots(path, &mut *visit));
        if let Some(head) = &self.head {
            head.visit_slots(&self.decoder, path, &mut *visit);
        }
        path.within("classifier", |path| {
            self.classifier.visit_slots(path, visit)
        });
    }

    fn visit_slots_mut(&mut self, path: &mut Path, visit: &mut dyn FnMut(&str, &mut dyn Slot)) {
        let (name, base) = (self.config.base(), &mut self.model);
        path.within(name, |path| base.visit_slots_mut(path, &mut *visit));
        if let Some(head) = &mut self.head {
            head.visit_slots_mut(&mut self.decoder, path, &mut *visit);
        }
        path.within("classifier", |path| {
            self.classifier.visit_slots_mut(path, visit);
        });
    }

    fn tree(&self) -> Tree {
        let config = &self.config;
        let base = with_padding_row(self.model.tree(), &["tok_embeddings"], config.pad_token_id);
        let Some(head) = &self.head else {
            return base;
        };
        let parts = [
            ("dense", head.dense.tree()),
            ("act", config.classifier_activation.tree()),
            ("norm", head.norm.tree()),
        ];
        let before = Tree::node("ModernBertPredictionHead", parts);
        let mut children = vec![("model", base), ("head", before)];
        match &self.classifier {
            Some(classifier) => children.extend([
                ("drop", self.drop.tree()),
                ("classifier", classifier.tree()),
            ]),
            None => children.push(("decoder", self.shown_decoder())),
        }
        Tree::node(config.class(), children)
    }

    fn model_type(&self) -> &str {
        "modernbert"
    }

    fn input_embedding(&self) -> &str {
        if self.config.base().is_empty() {
            "embeddings.tok_embeddings"
        } else {
            "model.embeddings.tok_embeddings"
        }
    }

    fn output_embedding(&self) -> &str {
        if self.config.head.predicts_tokens() {
            "decoder"
        } else {
            ""
        }
    }

    changed_by_decoder!();
}

impl ModernBertForMaskedLM {
    fn shown_decoder(&self) -> Tree {
        let config = &self.config;
        match &self.decoder {
            Some(decoder) => decoder.tree(),
            None => Tree::linear(config.hidden_size, config.vocab_size, config.decoder_bias),
        }
    }
}

impl Decoder for ModernBertForMaskedLM {
    type Config = ModernBertConfig;
    type Block = ModernBertEncoderLayer;

    fn new(config: &ModernBertConfig, device: &Device) -> Self {
        let head = &config.head;
        let (d, vocab) = (config.hidden_size, config.vocab_size);
        let predicts = head.predicts_tokens();
        let is_tied = config.tie_word_embeddings;
        let linear = |d_out, bias| config.linear([d, d_out], bias, device);
        Self {
            model: ModernBertModel::new(config, device),
            head: (!head.is_none()).then(|| {
                let layers = (linear(d, config.classifier_bias), config.norm(device));
                let bias = predicts && is_tied && config.decoder_bias;
                let activation = config.classifier_activation;
                MaskedHead::of(HEAD, layers, bias.then_some(vocab), activation, device)
            }),
            decoder: (predicts && !is_tied).then(|| linear(vocab, config.decoder_bias)),
            drop: DropoutConfig::new(config.classifier_dropout).init(),
            classifier: (head.classifies()).then(|| linear(head.num_labels(), true)),
            config: config.clone(),
        }
    }

    decoder_fields!(model.embeddings.tok_embeddings, decoder);

    fn is_causal(&self) -> bool {
        false
    }

    fn pass(&self, input: &ModelInput, past: usize, _cached: bool) -> Pass {
        let (ropes, _) = Places::of(input, past).rotations(&self.config.ropes);
        Pass {
            ropes,
            ..Pass::both_ways(input, past)
        }
    }

    fn blocks(&self) -> &[ModernBertEncoderLayer] {
        &self.model.layers
    }

    fn final_norm(&self, hidden: Tensor<2>) -> Tensor<2> {
        self.model.final_norm.forward(hidden)
    }

    fn after_embedding(&self, embedded: Tensor<2>) -> Tensor<2> {
        self.model.embeddings.finish(embedded)
    }

    fn pooled(&self, hidden: Tensor<2>, input: &ModelInput) -> Tensor<2> {
        let of_text = self.config.head.task == TaskType::SeqCls;
        match self.config.classifier_pooling {
            ClassifierPooling::Mean if of_text => mean_of_texts(hidden, input),
            _ => hidden,
        }
    }

    fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        match (&self.head, &self.classifier) {
            (Some(head), Some(classifier)) => {
                classifier.forward(apply_dropout(&self.drop, head.forward(hidden)))
            }
            (Some(head), None) => head.logits(hidden, self.embedding(), &self.decoder),
            (None, _) => hidden,
        }
    }

    fn masked_head_mut(&mut self) -> Option<&mut MaskedHead> {
        self.head.as_mut()
    }

    /// transformers' `_init_weights`, without the truncation.
    fn initial_std(config: &ModernBertConfig, name: &str) -> f64 {
        let is_output = [".Wo.weight", "head.dense.weight", "decoder.weight"];
        if name.starts_with("classifier.") {
            (config.hidden_size as f64).powf(-0.5)
        } else if is_output.iter().any(|output| name.ends_with(output)) {
            config.initializer_range / (2.0 * config.num_hidden_layers as f64).sqrt()
        } else {
            config.initializer_range
        }
    }

    fn empty_row(config: &ModernBertConfig, name: &str) -> Option<usize> {
        let is_padded = name.ends_with("tok_embeddings.weight");
        padding_row(config.pad_token_id.filter(|_| is_padded))
    }
}
