//! `peft inspect`: shows the parts of a model and which of them are trained.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use burn::tensor::Device;
use burn_peft::config::{Fields, TaskType};
use burn_peft::methods::config_from_fields;
use burn_peft::parameters::{NamedParameter, count, trainable_parameters_line};
use burn_peft::{DEFAULT_ADAPTER, PeftModel};
use burn_peft_files::read_text;
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::weights::Reading;
use burn_peft_models::{AutoModel, Labels, LanguageModel, WantedHead};
use serde_json::json;

use crate::loading::{ModelArgs, completed, find_model, load_adapter, load_base, load_model};
use crate::output::{emit, say, say_json};

const EXAMPLE: &str = "\
Examples:
  peft inspect --model gpt2
  peft inspect --model gpt2 --adapter out
  peft inspect --model gpt2 --config adapter_config.json --json

With --adapter or --config, the parameters are shown as they are when the adapter is trained.";

/// The command line of `peft inspect`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Show the adapter that this adapter_config.json describes
    #[arg(long, value_name = "FILE", conflicts_with = "adapter")]
    config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs `peft inspect`.
pub fn run(args: Args, device: &Device) -> Result<()> {
    let files = find_model(&args.model.model)?;
    let model: LanguageModel = match (&args.model.adapter, &args.config) {
        (None, None) => load_model(&files, device)?.into(),
        (Some(adapter), _) => {
            let model = load_base(&files, std::slice::from_ref(adapter), device)?;
            load_adapter(model, adapter, true)?.into()
        }
        (None, Some(config)) => preview(&files, config, device)?.into(),
    };
    let (tree, parameters) = (model.tree(), model.named_parameters());
    let (trainable, all) = count(&parameters);
    if !args.json {
        emit(&format!("{tree}\n"))?;
        emit(&table(&parameters))?;
        return say(trainable_parameters_line(trainable, all));
    }
    let parameters: Vec<_> = parameters
        .iter()
        .map(|parameter| {
            json!({
                "name": parameter.name,
                "shape": parameter.shape,
                "numel": parameter.numel(),
                "requires_grad": parameter.requires_grad,
            })
        })
        .collect();
    say_json(&json!({
        "tree": tree.to_string(),
        "parameters": parameters,
        "trainable": trainable,
        "all": all,
        "trainable_percent": 100.0 * trainable as f64 / all.max(1) as f64,
    }))
}

/// The model with the new adapter that a configuration describes.
fn preview(files: &ModelFiles, path: &Path, device: &Device) -> Result<PeftModel<AutoModel>> {
    let place = path.display();
    if path
        .extension()
        .is_some_and(|extension| extension == "toml")
    {
        bail!(
            "{place}: --config takes an adapter_config.json, and this is a training file: \
             `peft train {place} --dry-run` shows what it would train"
        );
    }
    let text = read_text(path)?;
    let config = config_from_fields(Fields::parse(&text, place.to_string())?)?;
    // As in training, although the file may belong to a saved adapter.
    let mut common = config.common().clone();
    common.inference_mode = false;
    let labels = Labels::of(&config.to_json());
    let head = WantedHead {
        task: common.task_type.unwrap_or_default(),
        labels: labels.map_err(|problem| anyhow!("{place}: {problem}"))?,
        ..WantedHead::default()
    };
    let model = match head.task {
        TaskType::SeqCls | TaskType::TokenCls | TaskType::FeatureExtraction => {
            AutoModel::with_head(files, device, Reading::InBlocks, &head)?
        }
        _ => load_model(files, device)?,
    };
    let config = completed(config.with_common(common), &model)?;
    Ok(PeftModel::new(model, DEFAULT_ADAPTER, config)?)
}

/// One line for each parameter: its name, its shape and whether it is trained.
fn table(parameters: &[NamedParameter]) -> String {
    let shape = |parameter: &NamedParameter| format!("{:?}", parameter.shape);
    let width = |text: &dyn Fn(&NamedParameter) -> usize| parameters.iter().map(text).max();
    let names = width(&|parameter| parameter.name.len()).unwrap_or(0);
    let shapes = width(&|parameter| shape(parameter).len()).unwrap_or(0);
    let lines = parameters.iter().map(|parameter| {
        let state = if parameter.requires_grad {
            "trainable"
        } else {
            "frozen"
        };
        format!(
            "{:names$}  {:>shapes$}  {state}\n",
            parameter.name,
            shape(parameter)
        )
    });
    lines.collect()
}
