//! BERT, RoBERTa and XLM-RoBERTa.

use burn::module::Module;
use burn::nn::{Embedding, Linear};
use burn::tensor::activation::tanh;
use burn::tensor::{Device, Int, Tensor};
use burn_peft::config::TaskType;
use burn_peft::{Adaptable, LoraAdapter, Path, Slot, Tree};

use crate::ModelInput;
use crate::decoder::{Decoder, Positions, changed_by_decoder, decoder_fields};
use crate::encoder::{Classifier, MaskedHead, SavedTogether, renamed, with_last, with_padding_row};

mod config;
mod model;

pub use config::BertConfig;
pub use model::{
    BertAttention, BertEmbeddings, BertEncoder, BertIntermediate, BertLayer, BertModel, BertOutput,
    BertPooler, BertSelfAttention, BertSelfOutput, Tanh,
};

/// BERT, RoBERTa or XLM-RoBERTa with the head that predicts masked tokens (transformers'
/// `BertForMaskedLM`).
///
/// A classifier (`BertForSequenceClassification`, `BertForTokenClassification`) has another head in
/// its place, and a model without a head (`BertModel`) has none.
#[derive(Module, Debug)]
pub struct BertForMaskedLM {
    /// Everything but the head.
    pub bert: BertModel,
    /// The head that predicts masked tokens.
    pub masked: Option<MaskedHead>,
    /// Its output, unless that is tied to the token embeddings.
    pub decoder: Option<LoraAdapter<Linear>>,
    /// The head that scores labels.
    pub classifier: Option<Classifier>,
    #[module(skip)]
    config: BertConfig,
}

impl Adaptable for BertForMaskedLM {
    fn visit_slots(&self, path: &mut Path, visit: &mut dyn FnMut(&str, &dyn Slot)) {
        let (base, bert) = (self.config.base(), &self.bert);
        path.within(base, |path| bert.visit_slots(path, &mut *visit));
        if let Some(head) = &self.masked {
            head.visit_slots(&self.decoder, path, &mut *visit);
        }
        if let Some(head) = &self.classifier {
            head.visit_slots(path, visit);
        }
    }

    fn visit_slots_mut(&mut self, path: &mut Path, visit: &mut dyn FnMut(&str, &mut dyn Slot)) {
        let (base, bert) = (self.config.base(), &mut self.bert);
        path.within(base, |path| bert.visit_slots_mut(path, &mut *visit));
        if let Some(head) = &mut self.masked {
            head.visit_slots_mut(&mut self.decoder, path, &mut *visit);
        }
        if let Some(head) = &mut self.classifier {
            head.visit_slots_mut(path, visit);
        }
    }

    fn tree(&self) -> Tree {
        let config = &self.config;
        let padded: &[&str] = if config.is_roberta() {
            &["word_embeddings", "position_embeddings"]
        } else {
            &["word_embeddings"]
        };
        let mut base = with_padding_row(self.bert.tree(), padded, config.pad_token_id);
        if config.is_roberta() {
            base = with_last(base, "position_embeddings");
        }
        let mut children = vec![(config.base(), base)];
        if let Some(head) = &self.classifier {
            children.extend(self.shown_classifier(head));
        }
        if let Some(head) = &self.masked {
            children.push(self.shown_masked(head));
        }
        let tree = if config.base().is_empty() {
            children.swap_remove(0).1
        } else {
            Tree::node(format!("Bert{}", config.class_of_head()), children)
        };
        let class = config.class();
        renamed(tree, &|name| match name.strip_prefix("Bert") {
            Some(rest) => format!("{class}{rest}"),
            None => name.to_string(),
        })
    }

    fn model_type(&self) -> &str {
        &self.config.model_type
    }

    fn input_embedding(&self) -> &str {
        self.config.input_embedding()
    }

    fn output_embedding(&self) -> &str {
        if self.masked.is_some() {
            self.config.masked().output
        } else {
            ""
        }
    }

    changed_by_decoder!();

    /// Without a head, only the last hidden states are used.
    fn is_idle(&self, name: &str) -> bool {
        self.config.head.is_none() && name.contains("pooler.")
    }
}

impl BertForMaskedLM {
    fn shown_classifier(&self, head: &Classifier) -> Vec<(&'static str, Tree)> {
        let (dropout, output) = (head.dropout.tree(), head.output.tree());
        let Some(dense) = &head.dense else {
            return vec![("dropout", dropout), ("classifier", output)];
        };
        let parts = [
            ("dense", dense.tree()),
            ("dropout", dropout),
            ("out_proj", output),
        ];
        let head = SavedTogether::new("BertClassificationHead", parts);
        vec![("classifier", head.tree())]
    }

    fn shown_masked(&self, head: &MaskedHead) -> (&'static str, Tree) {
        let (dense, norm) = (head.dense.tree(), head.norm.tree());
        let output = head.shown_output(&self.decoder, self.config.hidden_size);
        if self.config.is_roberta() {
            let parts = [("dense", dense), ("layer_norm", norm), ("decoder", output)];
            return ("lm_head", Tree::node("BertLMHead", parts));
        }
        let parts = [
            ("dense", dense),
            ("transform_act_fn", self.config.hidden_act.tree()),
            ("LayerNorm", norm),
        ];
        let transform = Tree::node("BertPredictionHeadTransform", parts);
        let parts = [("transform", transform), ("decoder", output)];
        let predictions = Tree::node("BertLMPredictionHead", parts);
        let head = Tree::node("BertOnlyMLMHead", [("predictions", predictions)]);
        ("cls", head)
    }
}

impl Decoder for BertForMaskedLM {
    type Config = BertConfig;
    type Block = BertLayer;

    fn new(config: &BertConfig, device: &Device) -> Self {
        let head = &config.head;
        let is_masked = head.predicts_tokens();
        let (d, vocab) = (config.hidden_size, config.vocab_size);
        let is_tied = config.tie_word_embeddings;
        Self {
            bert: BertModel::new(config, device),
            masked: is_masked.then(|| {
                let activation = config.masked_activation();
                let epsilon = config.layer_norm_eps;
                MaskedHead::new(
                    config.masked(),
                    [d, vocab],
                    activation,
                    epsilon,
                    is_tied,
                    device,
                )
            }),
            decoder: (is_masked && !is_tied).then(|| config.linear(d, vocab, device)),
            classifier: head.classifies().then(|| {
                let (names, dropout) = (config.classifier(), config.head_dropout());
                Classifier::new(names, [d, head.num_labels()], dropout, device)
            }),
            config: config.clone(),
        }
    }

    decoder_fields!(bert.embeddings.word_embeddings, decoder);

    fn is_causal(&self) -> bool {
        false
    }

    fn blocks(&self) -> &[BertLayer] {
        &self.bert.encoder.layer
    }

    fn positions(&self, input: &ModelInput, past: usize) -> Positions {
        match self.config.padding_position() {
            Some(padding) => Positions::without_padding(input, past, padding),
            None => Positions::of(input, past),
        }
    }

    fn add_positions(&self, embedded: Tensor<2>, positions: Positions) -> Tensor<2> {
        let first = self.config.first_position();
        positions.add(embedded, &self.bert.embeddings.position_embeddings, first)
    }

    fn add_token_types(&self, embedded: Tensor<2>, types: Option<Tensor<1, Int>>) -> Tensor<2> {
        let [tokens, _] = embedded.dims();
        let types = types.filter(|_| self.config.type_vocab_size > 1);
        let types = types.unwrap_or_else(|| Tensor::zeros([tokens], &embedded.device()));
        embedded + self.bert.embeddings.token_type_embeddings.forward(types)
    }

    fn after_embedding(&self, embedded: Tensor<2>) -> Tensor<2> {
        self.bert.embeddings.finish(embedded)
    }

    fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        if let Some(head) = &self.classifier {
            let of_text = self.config.head.task == TaskType::SeqCls;
            let hidden = match self.bert.pooler.as_ref().filter(|_| of_text) {
                Some(pooler) => tanh(pooler.dense.forward(hidden)),
                None => hidden,
            };
            return head.forward(hidden);
        }
        match &self.masked {
            Some(head) => head.logits(hidden, self.embedding(), &self.decoder),
            None => hidden,
        }
    }

    fn masked_head_mut(&mut self) -> Option<&mut MaskedHead> {
        self.masked.as_mut()
    }

    fn empty_row(config: &BertConfig, name: &str) -> Option<usize> {
        config.empty_row(name)
    }
}
