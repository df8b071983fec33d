//! The models that can answer: the base alone, and with each adapter.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use burn::tensor::Device;
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::{LanguageModel, Session};

use crate::loading::{ModelsArgs, check_language_model, open_each};

/// The name of the base alone.
pub const BASE: &str = "base";

/// A model with or without an adapter.
pub struct Voice {
    /// The adapter's folder, or `base`.
    pub name: String,
    /// The model.
    pub model: LanguageModel,
    /// What it has cached of the conversation.
    pub session: Session,
}

/// All models that can answer, one of which is selected.
pub struct Voices {
    all: Vec<Voice>,
    current: usize,
}

impl Voices {
    /// Loads the base and the adapters, each once; the first adapter is selected.
    pub fn open(files: &ModelFiles, args: &ModelsArgs, device: &Device) -> Result<Self> {
        let names = names(&args.adapter)?;
        let models = open_each(files, args, true, device)?;
        check_language_model(&models[0].1)?;
        let names = std::iter::once(BASE.to_owned()).chain(names);
        let all = names.zip(models).map(|(name, (_, model))| Voice {
            name,
            model,
            session: Session::default(),
        });
        let all: Vec<Voice> = all.collect();
        let current = usize::from(all.len() > 1);
        Ok(Self { all, current })
    }

    /// The selected model.
    pub fn current(&self) -> &Voice {
        &self.all[self.current]
    }

    /// The selected model, mutable.
    pub fn current_mut(&mut self) -> &mut Voice {
        &mut self.all[self.current]
    }

    /// All models.
    pub fn all(&self) -> &[Voice] {
        &self.all
    }

    /// Selects another model.
    pub fn switch(&mut self, name: &str) -> Result<()> {
        match self.all.iter().position(|voice| voice.name == name) {
            Some(index) => self.current = index,
            None => bail!(
                "there is no adapter {name} here: there is {}; others are loaded at the start, with \
                 --adapter DIR",
                self.names().join(", ")
            ),
        }
        Ok(())
    }

    /// The names of all models.
    pub fn names(&self) -> Vec<&str> {
        self.all.iter().map(|voice| voice.name.as_str()).collect()
    }
}

/// The adapters' folders by name; by path if two have the same name.
fn names(adapters: &[impl AsRef<Path>]) -> Result<Vec<String>> {
    let folder = |path: &Path| {
        let whole = path.canonicalize();
        let whole = whole.as_deref().unwrap_or(path);
        let name = whole.file_name().unwrap_or(whole.as_os_str());
        name.to_string_lossy().into_owned()
    };
    let folders: Vec<String> = adapters.iter().map(|path| folder(path.as_ref())).collect();
    let mut names: Vec<String> = Vec::new();
    for (path, name) in adapters.iter().zip(&folders) {
        let is_alone = folders.iter().filter(|other| *other == name).count() == 1;
        let name = if is_alone && name != BASE {
            name.clone()
        } else {
            path.as_ref().display().to_string()
        };
        ensure!(
            name != BASE,
            "--adapter {BASE}: {BASE} is what the model alone is called here: give the adapter as ./{BASE}"
        );
        ensure!(!names.contains(&name), "--adapter {name} is given twice");
        names.push(name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn adapters_are_called_by_their_folders() {
        assert_eq!(names(&["runs/a", "b/"]).unwrap(), ["a", "b"]);
        assert_eq!(names(&["x/a", "y/a", "b"]).unwrap(), ["x/a", "y/a", "b"]);
        assert_eq!(names(&["./base"]).unwrap(), ["./base"]);
        assert!(names(&["base"]).unwrap_err().to_string().contains("./base"));
        let twice = names(&["x/a", "x/a"]).unwrap_err().to_string();
        assert!(twice.contains("given twice"), "{twice}");
    }
}
