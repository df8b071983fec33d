//! The methods that are compared, as changes to the quick start's training file.

use std::path::Path;

use anyhow::Result;
use burn_peft_train::TrainConfig;

use crate::QUICKSTART;

/// A method with its settings for a model of width 128.
pub struct Method {
    /// Its name in the table.
    pub name: &'static str,
    /// The best of 0.3, 1 and 3 times a guess, by the evaluation loss after 30 steps.
    learning_rate: f64,
    /// Keys of the training file, separated by spaces. `{steps}` is the budget, `{tenth}` a tenth
    /// of it.
    set: &'static str,
}

const fn method(name: &'static str, learning_rate: f64, set: &'static str) -> Method {
    Method {
        name,
        learning_rate,
        set,
    }
}

/// The settings that all share: rows short enough to leave room for virtual tokens, and no
/// checkpoints or evaluations during the measured time.
const COMMON: &str = "data.max_length=112 training.eval_strategy=no training.save_strategy=no \
    training.logging_steps=50 peft.base_model_name_or_path=assets/tiny-gpt2";

/// The 64 most frequent tokens of data/quickstart/train.jsonl: 63 % of it.
const FREQUENT: &str = "peft.peft_type=TRAINABLE_TOKENS peft.target_modules=[\"wte\"] \
    peft.token_indices=[1,7,12,14,69,70,72,73,76,78,79,83,84,89,258,259,260,262,265,267,270,275,\
    277,280,284,287,293,298,302,306,318,322,326,328,331,332,347,355,358,370,376,378,382,423,428,\
    476,490,558,590,641,652,655,669,685,766,779,848,867,883,915,945,956,958,998]";

/// `target_modules` is the quick start's, all linear layers, unless a row says otherwise.
pub const METHODS: &[Method] = &[
    method("all weights", 3e-3, "peft.peft_type=NONE"),
    method("LoRA", 1e-2, ""),
    method("rsLoRA", 1.5e-2, "peft.use_rslora=true"),
    method("DoRA", 3e-2, "peft.use_dora=true"),
    method("PiSSA", 5e-3, "peft.init_lora_weights=pissa"),
    method("OLoRA", 5e-3, "peft.init_lora_weights=olora"),
    method("gaussian", 1e-2, "peft.init_lora_weights=gaussian"),
    method("orthogonal", 1e-2, "peft.init_lora_weights=orthogonal"),
    method(
        "LoftQ",
        3e-2,
        "peft.init_lora_weights=loftq peft.lora_alpha=8 \
        peft.loftq_config.loftq_bits=4 peft.loftq_config.loftq_iter=4",
    ),
    method(
        "LoRA with wte",
        1e-2,
        "peft.target_modules=[\"c_attn\",\"c_fc\",\"c_proj\",\"lm_head\"] \
        peft.ensure_weight_tying=true",
    ),
    method("LoRA-FA", 3e-2, "training.optim=lorafa"),
    method("LoRA+", 2e-3, "training.loraplus_lr_ratio=16"),
    method(
        "AdaLoRA",
        6e-2,
        "peft.peft_type=ADALORA peft.init_r=12 peft.target_r=8 \
        peft.total_step={steps} peft.tinit={tenth} peft.tfinal={tenth}",
    ),
    method(
        "GraLoRA",
        3e-2,
        "peft.peft_type=GRALORA peft.r=8 peft.alpha=16",
    ),
    method("HiRA", 9e-2, "peft.peft_type=HIRA peft.r=8"),
    method("LoHa", 6e-2, "peft.peft_type=LOHA peft.r=4"),
    method("LoKr", 6e-2, "peft.peft_type=LOKR peft.r=8"),
    method("RandLoRA", 5e-3, "peft.peft_type=RANDLORA peft.r=32"),
    method(
        "VB-LoRA",
        3e-2,
        "peft.peft_type=VBLORA peft.r=4 peft.num_vectors=64 peft.vector_length=128",
    ),
    method(
        "VeRA",
        0.3,
        "peft.peft_type=VERA peft.r=256 peft.save_projection=false",
    ),
    method("MiSS", 1e-2, "peft.peft_type=MISS peft.r=8"),
    method("C3A", 0.3, "peft.peft_type=C3A peft.block_size=32"),
    method("DeLoRA", 3e-3, "peft.peft_type=DELORA peft.r=8"),
    method("SHiRA", 3e-2, "peft.peft_type=SHIRA peft.r=8"),
    method(
        "FourierFT",
        9e-2,
        "peft.peft_type=FOURIERFT peft.n_frequency=1000 peft.init_weights=true",
    ),
    method(
        "WaveFT",
        3e-3,
        "peft.peft_type=WAVEFT peft.n_frequency=1000",
    ),
    method(
        "OFT",
        1.5e-2,
        "peft.peft_type=OFT peft.r=0 peft.oft_block_size=32",
    ),
    method(
        "BOFT",
        1e-2,
        "peft.peft_type=BOFT peft.boft_block_size=8 peft.boft_n_butterfly_factor=2",
    ),
    method("HRA", 3e-2, "peft.peft_type=HRA peft.r=8"),
    method("RoAd", 9e-2, "peft.peft_type=ROAD"),
    method(
        "IA3",
        0.15,
        "peft.peft_type=IA3 peft.target_modules=[\"c_attn\",\"mlp.c_proj\"] \
        peft.feedforward_modules=[\"mlp.c_proj\"]",
    ),
    method(
        "LN tuning",
        9e-2,
        "peft.peft_type=LN_TUNING peft.target_modules=[\"ln_1\",\"ln_2\",\"ln_f\"]",
    ),
    method("trainable tokens", 3e-2, FREQUENT),
    method(
        "Houlsby",
        3e-2,
        "peft.peft_type=BOTTLENECK peft.architecture=houlsby \
        peft.reduction_factor=4 peft.target_modules=[\"attn.c_proj\",\"mlp.c_proj\"]",
    ),
    method(
        "Pfeiffer",
        3e-2,
        "peft.peft_type=BOTTLENECK peft.architecture=pfeiffer \
        peft.reduction_factor=4 peft.target_modules=[\"mlp.c_proj\"]",
    ),
    method(
        "parallel",
        3e-2,
        "peft.peft_type=BOTTLENECK peft.architecture=parallel \
        peft.reduction_factor=4 peft.target_modules=[\"mlp\"]",
    ),
    method(
        "prompt tuning",
        9e-2,
        "peft.peft_type=PROMPT_TUNING peft.num_virtual_tokens=16 \
        peft.prompt_tuning_init=SAMPLE_VOCAB",
    ),
    method(
        "p-tuning",
        1e-2,
        "peft.peft_type=P_TUNING peft.num_virtual_tokens=16",
    ),
    method(
        "p-tuning LSTM",
        1e-2,
        "peft.peft_type=P_TUNING peft.num_virtual_tokens=16 \
        peft.encoder_reparameterization_type=LSTM",
    ),
    method(
        "prefix tuning",
        9e-2,
        "peft.peft_type=PREFIX_TUNING peft.num_virtual_tokens=16",
    ),
    method(
        "prefix projection",
        1e-2,
        "peft.peft_type=PREFIX_TUNING peft.num_virtual_tokens=16 \
        peft.prefix_projection=true",
    ),
];

impl Method {
    /// Its `peft_type`: the quick start's is LORA.
    pub fn peft_type(&self) -> &'static str {
        let mut words = self.set.split_whitespace();
        words
            .find_map(|word| word.strip_prefix("peft.peft_type="))
            .unwrap_or("LORA")
    }

    /// Its name as the name of a folder.
    pub fn slug(&self) -> String {
        self.name
            .replace(' ', "-")
            .replace('+', "-plus")
            .to_lowercase()
    }

    /// The training file, for a budget of steps.
    pub fn config(&self, steps: usize, scale: f64, output: &Path) -> Result<TrainConfig> {
        let set = format!("{COMMON} {}", self.set)
            .replace("{steps}", &steps.to_string())
            .replace("{tenth}", &(steps / 10).to_string());
        let mut overrides: Vec<String> = set.split_whitespace().map(str::to_string).collect();
        overrides.extend([
            format!("training.max_steps={steps}"),
            format!("training.warmup_steps={}", steps / 10),
            format!("training.learning_rate={:e}", self.learning_rate * scale),
        ]);
        let mut config = TrainConfig::from_file(Path::new(QUICKSTART), &overrides)?;
        config.training.output_dir = output.to_path_buf();
        Ok(config)
    }
}
