//! Setting LoRA's keys one by one.

use crate::config::{Bias, InitLoraWeights, LoraConfig, OneOrMany, TaskType};
use crate::methods::TrainableTokenIndices;

/// Every method sets one key and returns the configuration; the fields document the keys.
impl LoraConfig {
    /// Sets the rank.
    pub fn with_r(mut self, r: usize) -> Self {
        self.r = r;
        self
    }

    /// Sets α, which need not be a whole number.
    ///
    /// ```
    /// # use burn_peft::LoraConfig;
    /// let config = LoraConfig::new().with_r(8).with_lora_alpha(16);
    /// assert_eq!(config, LoraConfig::new().with_r(8).with_lora_alpha(16.0));
    /// ```
    pub fn with_lora_alpha(mut self, lora_alpha: impl Into<f64>) -> Self {
        self.lora_alpha = lora_alpha.into();
        self
    }

    /// Sets the dropout probability.
    pub fn with_lora_dropout(mut self, lora_dropout: impl Into<f64>) -> Self {
        self.lora_dropout = lora_dropout.into();
        self
    }

    /// Sets which biases are trained.
    pub fn with_bias(mut self, bias: Bias) -> Self {
        self.bias = bias;
        self
    }

    /// Sets whether the scaling is α/√r.
    pub fn with_use_rslora(mut self, use_rslora: bool) -> Self {
        self.use_rslora = use_rslora;
        self
    }

    /// Sets how a new adapter starts.
    pub fn with_init_lora_weights(mut self, init_lora_weights: InitLoraWeights) -> Self {
        self.init_lora_weights = init_lora_weights;
        self
    }

    /// Sets whether B has a bias.
    pub fn with_lora_bias(mut self, lora_bias: bool) -> Self {
        self.lora_bias = lora_bias;
        self
    }

    /// Sets whether the adapter has DoRA's magnitudes.
    pub fn with_use_dora(mut self, use_dora: bool) -> Self {
        self.use_dora = use_dora;
        self
    }

    /// Sets whether a tied output layer shares what is trained for the input embedding.
    pub fn with_ensure_weight_tying(mut self, ensure_weight_tying: bool) -> Self {
        self.ensure_weight_tying = ensure_weight_tying;
        self
    }

    /// Sets the tokens of the input embedding that are trained too.
    pub fn with_trainable_token_indices(mut self, ids: impl IntoIterator<Item = usize>) -> Self {
        let ids = ids.into_iter().collect();
        self.trainable_token_indices = Some(TrainableTokenIndices::Input(ids));
        self
    }

    /// Sets the ranks of single layers, by pattern.
    pub fn with_rank_pattern<S: Into<String>>(
        mut self,
        ranks: impl IntoIterator<Item = (S, usize)>,
    ) -> Self {
        self.rank_pattern = ranks.into_iter().map(|(k, r)| (k.into(), r)).collect();
        self
    }

    /// Sets the α of single layers, by pattern.
    ///
    /// ```
    /// # use burn_peft::LoraConfig;
    /// LoraConfig::new().with_alpha_pattern([("c_fc", 32)]);
    /// ```
    pub fn with_alpha_pattern<S: Into<String>, A: Into<f64>>(
        mut self,
        alphas: impl IntoIterator<Item = (S, A)>,
    ) -> Self {
        let alphas = alphas.into_iter().map(|(k, a)| (k.into(), a.into()));
        self.alpha_pattern = alphas.collect();
        self
    }

    crate::layer_setters!();

    /// Sets the blocks to adapt, by index.
    pub fn with_layers_to_transform(mut self, indices: impl IntoIterator<Item = i64>) -> Self {
        self.common.layers_to_transform = Some(OneOrMany::Many(indices.into_iter().collect()));
        self
    }

    /// Sets the name of the list of blocks.
    pub fn with_layers_pattern(mut self, pattern: impl Into<String>) -> Self {
        self.common.layers_pattern = Some(OneOrMany::One(pattern.into()));
        self
    }

    /// Sets what the model is trained for.
    pub fn with_task_type(mut self, task_type: TaskType) -> Self {
        self.common.task_type = Some(task_type);
        self
    }

    /// Sets the base model's folder or Hub id.
    pub fn with_base_model(mut self, name_or_path: impl Into<String>) -> Self {
        self.common.base_model_name_or_path = Some(name_or_path.into());
        self
    }
}
