//! `README.md` beside what a run saves: a model card with the metadata that the Hugging Face Hub
//! reads.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use burn_peft::parameters::thousands;

use crate::checkpoint::files::write_atomically;
use crate::configuration::settings::{Origin, Setting, settings_toml};
use crate::error::Result;
use crate::seeing::markdown::{block, code, plain, yaml};
use crate::seeing::report::{Report, entries};

/// The name of the file in the output folder.
pub const CARD_NAME: &str = "README.md";

/// The prefix of the last line, which has the hash of the lines above.
const MARK: &str = "<!-- Written by peft. Once it is changed, peft leaves it alone. BLAKE3: ";
const MARK_END: &str = " -->\n";

/// What a model card says about a run, in addition to the run's report.
#[derive(Clone, Debug)]
pub struct ModelCard<'a> {
    /// The report of the run.
    pub report: &'a Report,
    /// The trained model, as the training file names it.
    pub base_model: &'a str,
    /// Its id on the Hub, if it comes from there.
    pub hub_id: Option<&'a str>,
    /// The method of the adapter; `None` if all weights were trained.
    pub peft_type: Option<&'a str>,
    /// The files that it was trained and evaluated on.
    pub data: Vec<DataFile>,
    /// The ids of those that are data sets on the Hub.
    pub datasets: Vec<String>,
    /// The command that uses the result.
    pub command: String,
    /// The folder of the result.
    pub folder: String,
    /// Whether the data are chats.
    pub is_chat: bool,
    /// For a classifier, the suffix of its class in transformers (`SequenceClassification`) and the
    /// number of labels.
    pub classifier: Option<(&'static str, usize)>,
    /// The names of the labels, if they have any.
    pub labels: Vec<String>,
    /// Whether it is an embedding model.
    pub is_embedder: bool,
}

/// A file of a run.
#[derive(Clone, Debug)]
pub struct DataFile {
    /// Its name and purpose.
    pub name: String,
    /// Whether it was trained on; otherwise the run was evaluated on it.
    pub is_trained: bool,
    /// The number of its examples.
    pub examples: usize,
    /// The number of their tokens.
    pub tokens: usize,
}

impl ModelCard<'_> {
    /// Writes the card into an output folder. `None` if there is a file of that name that no run
    /// has written, or that was edited since: it is left as it is.
    ///
    /// # Errors
    /// If `metrics.jsonl` cannot be read or the card cannot be written; the error names the file.
    pub fn save(&self, dir: &Path) -> Result<Option<PathBuf>> {
        let path = dir.join(CARD_NAME);
        if path.symlink_metadata().is_ok() && !is_written_here(&path) {
            return Ok(None);
        }
        let mut text = self.text(dir)?;
        let hash = blake3::hash(text.as_bytes());
        let _ = write!(text, "{MARK}{hash}{MARK_END}");
        write_atomically(&path, text.as_bytes())?;
        Ok(Some(path))
    }

    fn text(&self, dir: &Path) -> Result<String> {
        let mut out = self.metadata();
        let base = code(self.base_model);
        let what = match self.peft_type {
            Some(peft_type) => format!("An adapter ({}) for {base}", plain(peft_type)),
            None => format!("{base} with all its weights trained further"),
        };
        let _ = write!(
            out,
            "\n# {}\n\n{what}, made with burn-peft ({}).\n\n\
             <!-- What is it good for, and what is it not to be used for? -->\n\n## How to use it\n\n",
            plain(&self.report.title),
            plain(&self.report.made)
        );
        out += &block("sh", &self.command);
        let _ = write!(out, "\nIn Python:\n\n{}", block("python", &self.python()));
        self.trained_on(&mut out);
        self.figures(&mut out, dir)?;
        let said = self.report.settings.iter();
        let said: Vec<Setting> = said
            .filter(|setting| setting.origin != Origin::Default && setting.value.is_some())
            .cloned()
            .collect();
        if !said.is_empty() {
            let said = settings_toml(&said);
            let _ = write!(
                out,
                "\n## How it was trained\n\nWhat the training file and the command line said; \
                 `config.toml` has every value.\n\n{}\n",
                block("toml", said.trim_start())
            );
        }
        Ok(out)
    }

    /// The metadata that the Hub reads.
    fn metadata(&self) -> String {
        let mut out = String::from("---\n");
        let _ = match self.hub_id {
            Some(id) => writeln!(out, "base_model: {}", yaml(id)),
            // The Hub does not accept a path there.
            None => writeln!(
                out,
                "# base_model: (the Hub id of the model that was trained)"
            ),
        };
        let (library, relation) = match self.peft_type {
            Some(_) => ("peft", "adapter"),
            None => ("transformers", "finetune"),
        };
        let _ = write!(
            out,
            "# license: (such as apache-2.0)\nlibrary_name: {library}\npipeline_tag: {}\ntags:\n",
            match self.classifier {
                None if self.is_embedder => "sentence-similarity",
                None => "text-generation",
                Some(("TokenClassification", _)) => "token-classification",
                Some(_) => "text-classification",
            }
        );
        let mut tags = vec!["burn-peft".to_owned()];
        if self.is_embedder {
            tags.extend([
                "sentence-transformers".to_owned(),
                "feature-extraction".to_owned(),
            ]);
        }
        tags.extend(self.peft_type.map(str::to_lowercase));
        tags.extend(self.hub_id.map(|id| format!("base_model:{relation}:{id}")));
        let _ = writeln!(out, "{}", list(&tags));
        if !self.datasets.is_empty() {
            let _ = writeln!(out, "datasets:\n{}", list(&self.datasets));
        }
        out + "---\n"
    }

    /// The base as arguments of transformers' `from_pretrained`, which loads a GGUF file through
    /// its folder.
    fn python_base(&self) -> String {
        let model = self.hub_id.unwrap_or(self.base_model);
        let (folder, file) = match self.base_model.rsplit_once(['/', ':']) {
            Some((folder, file)) => (self.hub_id.unwrap_or(folder), file),
            None => (".", self.base_model),
        };
        if file.ends_with(".gguf") {
            format!("{}, gguf_file={}", yaml(folder), yaml(file))
        } else {
            yaml(model)
        }
    }

    fn python(&self) -> String {
        // Python's strings have the same escapes.
        let base = self.python_base();
        let folder = yaml(&self.folder);
        if self.is_embedder {
            return format!(
                "from sentence_transformers import SentenceTransformer\n\n\
                 model = SentenceTransformer({folder})  # or its id on the Hub\n\
                 print(model.encode([\"…\"]).shape)"
            );
        }
        let class = self.classifier.map_or("CausalLM", |(class, _)| class);
        let labels = self
            .classifier
            .map(|(_, count)| format!(", num_labels={count}"));
        let mut labels = labels.unwrap_or_default();
        let names = self.names();
        if !names.is_empty() {
            labels += ", id2label=id2label, label2id=label2id";
        }
        let model = match self.peft_type {
            Some(_) => format!(
                "from peft import PeftModel\nfrom transformers import AutoModelFor{class}, AutoTokenizer\n\n\
                 tokenizer = AutoTokenizer.from_pretrained({base})\n{names}\
                 model = AutoModelFor{class}.from_pretrained({base}{labels})\n\
                 model = PeftModel.from_pretrained(model, {folder})  # or its id on the Hub\n"
            ),
            None => format!(
                "from transformers import AutoModelFor{class}, AutoTokenizer\n\n\
                 tokenizer = AutoTokenizer.from_pretrained({folder})  # or its id on the Hub\n\
                 model = AutoModelFor{class}.from_pretrained({folder})\n"
            ),
        };
        let inputs = if self.is_chat {
            "messages = [{\"role\": \"user\", \"content\": \"…\"}]\n\
             inputs = tokenizer.apply_chat_template(\n    messages, add_generation_prompt=True, \
             return_dict=True, return_tensors=\"pt\"\n)"
        } else {
            "inputs = tokenizer(\"…\", return_tensors=\"pt\")"
        };
        if self.classifier.is_some() {
            return format!("{model}{inputs}\nprint(model(**inputs).logits)");
        }
        format!(
            "{model}{inputs}\noutput = model.generate(**inputs, max_new_tokens=200)\n\
             print(tokenizer.decode(output[0, inputs[\"input_ids\"].shape[1]:], skip_special_tokens=True))"
        )
    }

    /// Lines of Python with the names of the labels.
    fn names(&self) -> String {
        if self.labels.is_empty() {
            return String::new();
        }
        let names = self.labels.iter().enumerate();
        let names = names.map(|(id, name)| format!("{id}: {}", yaml(name)));
        format!(
            "id2label = {{{}}}\nlabel2id = {{label: id for id, label in id2label.items()}}\n",
            names.collect::<Vec<_>>().join(", ")
        )
    }

    fn trained_on(&self, out: &mut String) {
        out.push_str(
            "\n## What it was trained on\n\n| file | | rows | tokens |\n|---|---|--:|--:|\n",
        );
        for file in &self.data {
            let what = if file.is_trained {
                "training"
            } else {
                "evaluation"
            };
            let [examples, tokens] = [file.examples, file.tokens].map(thousands);
            let name = code(&file.name);
            let _ = writeln!(out, "| {name} | {what} | {examples} | {tokens} |");
        }
    }

    fn figures(&self, out: &mut String, dir: &Path) -> Result<()> {
        out.push_str("\n## Figures\n\n");
        let figures = self.report.figures(&entries(dir)?).into_iter();
        let mut figures = figures.filter(|figure| figure.after.is_some()).peekable();
        if figures.peek().is_some() {
            out.push_str("| | before | after |\n|---|--:|--:|\n");
        }
        for figure in figures {
            let text = |value: Option<f64>| value.map_or("–".into(), figure.metric.text);
            let (before, after) = (text(figure.before), text(figure.after));
            let _ = writeln!(out, "| {} | {before} | {after} |", figure.metric.title);
        }
        out.push_str("\n| | |\n|---|--:|\n");
        for (name, value) in &self.report.counts {
            let _ = writeln!(out, "| {} | {} |", plain(name), plain(value));
        }
        Ok(())
    }
}

/// A YAML list, without the final line break.
fn list(texts: &[String]) -> String {
    let lines = texts.iter().map(|text| format!("- {}", yaml(text)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether this card is exactly as a run has written it.
pub(crate) fn is_written_here(path: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(path) else {
        return false;
    };
    let found = text.rsplit_once(MARK);
    found.is_some_and(|(card, mark)| {
        mark.strip_suffix(MARK_END) == Some(blake3::hash(card.as_bytes()).to_string().as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card<'a>(report: &'a Report, hub_id: Option<&'a str>) -> ModelCard<'a> {
        ModelCard {
            report,
            base_model: "me/model@main",
            hub_id,
            peft_type: Some("LORA"),
            data: Vec::new(),
            datasets: vec!["me/data".into()],
            command: "peft".into(),
            folder: "out".into(),
            is_chat: false,
            classifier: None,
            labels: Vec::new(),
            is_embedder: false,
        }
    }

    #[test]
    fn python_takes_a_gguf_file_by_its_folder() {
        let report = Report::default();
        for (base_model, hub_id, expected) in [
            ("me/model@main", Some("me/model"), "\"me/model\""),
            ("models/tiny", None, "\"models/tiny\""),
            ("a/b.gguf", None, "\"a\", gguf_file=\"b.gguf\""),
            ("b.gguf", None, "\".\", gguf_file=\"b.gguf\""),
            (
                "me/model:b.gguf",
                Some("me/model"),
                "\"me/model\", gguf_file=\"b.gguf\"",
            ),
        ] {
            let card = ModelCard {
                base_model,
                ..card(&report, hub_id)
            };
            assert_eq!(card.python_base(), expected);
        }
    }

    #[test]
    fn a_classifier_is_used_as_one() {
        let report = Report::default();
        let card = ModelCard {
            classifier: Some(("SequenceClassification", 3)),
            ..card(&report, None)
        };
        assert!(
            card.metadata()
                .contains("pipeline_tag: text-classification\n")
        );
        let python = card.python();
        let model =
            "AutoModelForSequenceClassification.from_pretrained(\"me/model@main\", num_labels=3)";
        assert!(python.contains(model), "{python}");
        assert!(
            python.ends_with("print(model(**inputs).logits)"),
            "{python}"
        );
        let named = ModelCard {
            labels: vec!["down".into(), "up".into(), "\"so\"".into()],
            ..card
        };
        let python = named.python();
        let names = "id2label = {0: \"down\", 1: \"up\", 2: \"\\\"so\\\"\"}\n";
        assert!(python.contains(names), "{python}");
        let keys = "num_labels=3, id2label=id2label, label2id=label2id)";
        assert!(python.contains(keys), "{python}");
    }

    #[test]
    fn an_embedder_is_opened_by_sentence_transformers() {
        let report = Report::default();
        let card = ModelCard {
            is_embedder: true,
            ..card(&report, None)
        };
        let metadata = card.metadata();
        assert!(
            metadata.contains("pipeline_tag: sentence-similarity\n"),
            "{metadata}"
        );
        let python = card.python();
        assert!(python.contains("SentenceTransformer(\"out\")"), "{python}");
    }

    #[test]
    fn the_hub_reads_the_base_the_method_and_the_data() {
        let report = Report::default();
        let metadata = card(&report, Some("me/model")).metadata();
        let expected = "---\nbase_model: \"me/model\"\n# license: (such as apache-2.0)\n\
            library_name: peft\npipeline_tag: text-generation\ntags:\n- \"burn-peft\"\n- \"lora\"\n\
            - \"base_model:adapter:me/model\"\ndatasets:\n- \"me/data\"\n---\n";
        assert_eq!(metadata, expected);
        let whole = ModelCard {
            peft_type: None,
            hub_id: None,
            ..card(&report, None)
        };
        let metadata = whole.metadata();
        assert!(
            metadata.contains("library_name: transformers\n"),
            "{metadata}"
        );
        assert!(!metadata.contains("\nbase_model"), "{metadata}");
    }

    #[test]
    fn a_card_that_was_changed_is_nobodys_but_the_users() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("metrics.jsonl"), "").unwrap();
        let report = Report {
            title: "<b>*x*".into(),
            ..Report::default()
        };
        let card = card(&report, None);
        let path = card.save(dir.path()).unwrap().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\n# \\<b\\>\\*x\\*\n"), "{text}");
        assert!(is_written_here(&path));
        assert!(card.save(dir.path()).unwrap().is_some());
        for changed in [
            text.replace("me/data", "me/other"),
            format!("{text}more\n"),
            String::new(),
        ] {
            std::fs::write(&path, &changed).unwrap();
            assert!(!is_written_here(&path));
            assert!(card.save(dir.path()).unwrap().is_none());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), changed);
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(card.save(dir.path()).unwrap().is_none());
    }
}
