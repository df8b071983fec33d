//! The user's own model, with slots: records of the plain model, messages, and its printed form.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, TensorData};
use burn_peft::methods::peft_types;
use burn_peft::{
    Adaptable, HRAConfig, IA3Config, LoraAdapter, LoraConfig, PeftModel, VeraConfig, get_peft_model,
};

use crate::common::device;

/// A model, and the same model with slots, from one list of fields.
macro_rules! net {
    ($net:ident, $block:ident, [$($derived:ident),*], $linear:ty, $norm:ty, $embedding:ty, $slot:path) => {
        #[derive(Module, $($derived,)* Debug)]
        struct $block {
            norm: $norm,
            fc: $linear,
        }

        #[derive(Module, $($derived,)* Debug)]
        struct $net {
            tokens: $embedding,
            blocks: Vec<$block>,
        }

        impl $net {
            fn new() -> Self {
                let device = device();
                let block = || $block {
                    norm: $slot(LayerNormConfig::new(6).init(&device)),
                    fc: $slot(LinearConfig::new(6, 6).init(&device)),
                };
                Self {
                    tokens: $slot(EmbeddingConfig::new(9, 6).init(&device)),
                    blocks: vec![block(), block()],
                }
            }
        }
    };
}

net!(
    Plain,
    PlainBlock,
    [],
    Linear,
    LayerNorm,
    Embedding,
    std::convert::identity
);
net!(
    Net,
    Block,
    [Adaptable],
    LoraAdapter<Linear>,
    LoraAdapter<LayerNorm>,
    LoraAdapter<Embedding>,
    LoraAdapter::new
);

fn ids() -> Tensor<2, Int> {
    Tensor::from_data([[1, 8, 3]], &device())
}

impl Plain {
    fn forward(&self) -> TensorData {
        let mut hidden = self.tokens.forward(ids());
        for block in &self.blocks {
            hidden = block.fc.forward(block.norm.forward(hidden));
        }
        hidden.into_data()
    }
}

impl Net {
    fn forward(&self) -> TensorData {
        let mut hidden = self.tokens.forward_2d(ids());
        for block in &self.blocks {
            hidden = block.fc.forward_nd(block.norm.forward_nd(hidden));
        }
        hidden.into_data()
    }
}

#[track_caller]
fn equal(a: &TensorData, b: &TensorData) {
    a.assert_approx_eq::<f32>(b, burn::tensor::Tolerance::absolute(1e-5));
}

#[test]
fn the_record_of_a_plain_model_loads_into_slots_and_a_merged_model_into_a_plain_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let plain = Plain::new();
    plain.clone().save_file(file("plain.bpk")).unwrap();
    let net = Net::new().try_load_file(file("plain.bpk")).unwrap();
    equal(&net.forward(), &plain.forward());

    let mut config = LoraConfig::new().with_target_modules(["fc", "tokens"]);
    config.init_lora_weights = burn_peft::config::InitLoraWeights::False;
    let model = get_peft_model(net, config).unwrap();
    let adapted = model.forward();
    let merged = model.merge_and_unload(true).unwrap();
    merged.save_file(file("merged.bpk")).unwrap();
    let plain = plain.try_load_file(file("merged.bpk")).unwrap();
    equal(&plain.forward(), &adapted);
}

#[test]
fn a_wrong_width_names_the_layer() {
    let config = LoraConfig::new().with_target_modules("all-linear");
    let model = get_peft_model(Net::new(), config).unwrap();
    let said = |layer: &LoraAdapter<Linear>| {
        let wrong = Tensor::<2>::zeros([2, 7], &device());
        let panic = catch_unwind(AssertUnwindSafe(|| layer.forward(wrong))).unwrap_err();
        *panic.downcast::<String>().unwrap()
    };
    assert_eq!(
        said(&model.blocks[1].fc),
        "blocks.1.fc, Linear(in_features=6, out_features=6, bias=True), got an input 7 wide: it \
         takes [tokens, 6]"
    );
    // A model that was never wrapped does not know its paths.
    assert!(said(&Net::new().blocks[1].fc).starts_with("a layer, Linear(in_features=6,"));
}

#[test]
fn a_model_prints_its_layers_and_a_line_for_each_adapter() {
    let net = Net::new();
    // Printed as without slots, except for the names.
    assert_eq!(
        net.to_string()
            .replace("Net", "Plain")
            .replace("Block", "PlainBlock"),
        Plain::new().to_string()
    );
    let config = LoraConfig::new().with_r(2).with_target_modules(["fc"]);
    let model = get_peft_model(net, config).unwrap();
    let shown = model.to_string();
    assert!(
        shown.contains(
            "default: lora_dropout: Identity(), lora_A: Linear(in_features=6, out_features=2, \
             bias=False)"
        ),
        "{shown}"
    );
    assert!(
        shown.contains("adapters: default (LORA, active)"),
        "{shown}"
    );
    assert!(shown.lines().count() < 40, "{shown}");
    for word in ["SlotState", "LoraConfig", "Some(", "quantized"] {
        assert!(!shown.contains(word), "{word} in {shown}");
    }
}

#[test]
fn every_method_at_layers_is_made_in_one_line() {
    let config = IA3Config {
        feedforward_modules: Some([""; 0].into()),
        ..IA3Config::new().with_target_modules(["fc"])
    };
    let model = get_peft_model(Net::new(), config).unwrap();
    assert_eq!(model.get_nb_trainable_parameters().0, 12);

    let config = HRAConfig::new()
        .with_target_modules("all-linear")
        .with_exclude_modules(["blocks.0.fc"])
        .with_modules_to_save(["norm"]);
    let model = get_peft_model(Net::new(), config).unwrap();
    let names: Vec<String> = (model.named_parameters().into_iter())
        .filter(|parameter| parameter.requires_grad)
        .map(|parameter| parameter.name)
        .collect();
    assert!(names.iter().any(|name| name.contains("norm")), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("blocks.0.fc")));
    assert!(names.iter().any(|name| name.contains("blocks.1.fc")));
}

#[test]
fn a_key_that_the_methods_file_would_lose_is_an_error() {
    let config = VeraConfig::new()
        .with_target_modules("all-linear")
        .with_exclude_modules(["blocks.0.fc"]);
    let error = get_peft_model(Net::new(), config).unwrap_err().to_string();
    let said = "exclude_modules = [\"blocks.0.fc\"]: VERA has no such key";
    assert!(error.contains(said), "{error}");
}

#[test]
fn a_model_that_is_not_in_training_is_told_to_be_put_there() {
    let config = LoraConfig::new().with_target_modules(["fc"]);
    let model = get_peft_model(Net::new(), config).unwrap();
    let none = GradientsParams::new();
    let error = model.check_gradients(&none).unwrap_err().to_string();
    assert!(error.contains("call .train() on it"), "{error}");
    let error = model.train().check_gradients(&none).unwrap_err();
    assert!(error.to_string().contains("(no gradient)"), "{error}");
}

#[test]
fn the_librarys_page_has_the_configuration_of_every_method() {
    let page = include_str!("../docs/library.md");
    for peft_type in peft_types() {
        assert!(
            page.contains(&format!("| `{peft_type}` | `")),
            "{peft_type}"
        );
    }
}

#[test]
fn the_page_on_methods_shows_lines_of_the_registry() {
    let page = include_str!("../docs/adding-a-method.md");
    let registry = include_str!("../crates/peft/src/methods/mod.rs");
    let diffs: Vec<&str> = page.split("```diff\n").skip(1).collect();
    assert_eq!(diffs.len(), 3);
    for diff in diffs {
        let (diff, _) = diff.split_once("```").unwrap();
        let before = diff.lines().filter_map(|line| line.strip_prefix(' '));
        let before: Vec<&str> = before.collect();
        assert!(registry.contains(&before.join("\n")), "{before:?}");
    }
}

#[test]
fn the_readme_shows_the_program_of_the_example() {
    let readme = include_str!("../README.md");
    let example = include_str!("../examples/own_model.rs");
    let (_, program) = example.split_once("\n\n").unwrap();
    let shown = readme.split("```rust\n").nth(1).unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    assert!(
        shown == program,
        "examples/own_model.rs is not what README.md shows"
    );
}

/// Everything that Burn's `Module` holds modules in: arrays, tuples, and enums of one module each.
#[derive(Module, Adaptable, Debug)]
struct Held {
    pair: [LoraAdapter<Linear>; 2],
    tuple: (LoraAdapter<Linear>, HeldHead),
    head: HeldHead,
    #[adaptable(name = "self")]
    own: Option<HeldHead>,
    sides: [usize; 2],
    steps: i64,
}

#[derive(Module, Adaptable, Debug)]
enum HeldHead {
    Small(LoraAdapter<Linear>),
    #[allow(dead_code)]
    Deep(HeldMlp),
    #[allow(dead_code)]
    Skipped(#[adaptable(skip)] burn::nn::RmsNorm),
}

#[derive(Module, Adaptable, Debug)]
struct HeldMlp {
    fc: LoraAdapter<Linear>,
}

impl Held {
    fn new() -> Self {
        let linear = || LoraAdapter::new(LinearConfig::new(4, 4).init(&device()));
        Self {
            pair: [linear(), linear()],
            tuple: (linear(), HeldHead::Small(linear())),
            head: HeldHead::Deep(HeldMlp { fc: linear() }),
            own: Some(HeldHead::Skipped(
                burn::nn::RmsNormConfig::new(4).init(&device()),
            )),
            sides: [2, 3],
            steps: -1,
        }
    }

    fn forward(&self) -> TensorData {
        let mut x = Tensor::<2>::ones([1, 4], &device());
        for layer in &self.pair {
            x = layer.forward(x);
        }
        let (first, HeldHead::Small(second)) = &self.tuple else {
            panic!("of another variant")
        };
        let HeldHead::Deep(third) = &self.head else {
            panic!("of another variant")
        };
        third
            .fc
            .forward(second.forward(first.forward(x)))
            .into_data()
    }
}

#[test]
fn arrays_tuples_and_enums_hold_slots() {
    let net = Held::new();
    let tree = net.tree().to_string();
    assert_eq!(
        tree.replace("Linear(in_features=4, out_features=4, bias=True)", "fc"),
        "\
Held(
  (pair): ModuleList(
    (0-1): 2 x fc
  )
  (tuple): ModuleList(
    (0): fc
    (1): HeldHead(
      (Small): fc
    )
  )
  (head): HeldHead(
    (Deep): HeldMlp(
      (fc): fc
    )
  )
)"
    );
    let mut config = LoraConfig::new()
        .with_r(2)
        .with_target_modules("all-linear");
    config.init_lora_weights = burn_peft::config::InitLoraWeights::False;
    let model = get_peft_model(net.clone(), config).unwrap();
    let layers = model.layers();
    let paths: Vec<_> = layers.iter().map(|layer| layer.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "pair.0",
            "pair.1",
            "tuple.0",
            "tuple.1.Small",
            "head.Deep.fc"
        ]
    );

    // Burn's record, PEFT's files and the merged weights find the same layers.
    let folder = tempfile::tempdir().unwrap();
    let adapted = model.forward();
    model.save_pretrained(folder.path()).unwrap();
    let record = folder.path().join("base.bpk");
    net.save_file(&record).unwrap();
    let net = Held::new().try_load_file(&record).unwrap();
    let loaded = PeftModel::from_pretrained(net, folder.path(), false).unwrap();
    equal(&loaded.forward(), &adapted);
    equal(&loaded.merge_and_unload(true).unwrap().forward(), &adapted);
}

#[test]
fn a_layer_that_a_method_cannot_adapt_is_named_with_its_kind() {
    let error = get_peft_model(Net::new(), IA3Config::new().with_target_modules(["fc"]));
    let error = error.unwrap_err().to_string();
    let said = "feedforward_modules is not given and has no default for the model: name";
    assert!(error.contains(said), "{error}");
    let without_feedforward = |names: [&str; 1]| IA3Config {
        feedforward_modules: Some([""; 0].into()),
        ..IA3Config::new().with_target_modules(names)
    };
    let config = without_feedforward(["tokens"]);
    let error = get_peft_model(Net::new(), config).unwrap_err().to_string();
    let said = "tokens (Embedding), which IA3 cannot adapt; in the model it adapts Linear layers";
    assert!(error.contains(said), "{error}");
    let config = without_feedforward(["norm"]);
    let error = get_peft_model(OnlyNorm::new(), config).unwrap_err();
    let error = error.to_string();
    let said = "in the model it adapts no layer (methods for such a layer: LN_TUNING)";
    assert!(error.contains(said), "{error}");
}

#[derive(Module, Adaptable, Debug)]
struct OnlyNorm {
    norm: LoraAdapter<LayerNorm>,
}

impl OnlyNorm {
    fn new() -> Self {
        Self {
            norm: LoraAdapter::new(LayerNormConfig::new(6).init(&device())),
        }
    }
}
