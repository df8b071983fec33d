//! Configurations that are plain data: the keys shared by all methods, and a method's own.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{CommonConfig, Fields};
use crate::Result;

/// A configuration whose own keys serde reads and writes; implemented by
/// [`peft_config!`](crate::peft_config). Its default values are PEFT's.
pub trait Keys: Default + Serialize + DeserializeOwned {
    /// The name in `adapter_config.json`, such as `IA3`.
    const PEFT_TYPE: &'static str;
    /// The name of PEFT's class without `Config`, such as `IA3`.
    const CLASS_NAME: &'static str;
    /// The keys of [`CommonConfig`] that PEFT's class does not have.
    const WITHOUT: &'static [&'static str];

    /// The keys that all methods share.
    fn common(&self) -> &CommonConfig;

    /// The keys that all methods share, mutable.
    fn common_mut(&mut self) -> &mut CommonConfig;

    /// Keys of unsupported features, with the values that turn them off, which PEFT assumes if they
    /// are missing.
    fn fixed() -> Vec<(&'static str, Value)> {
        Vec::new()
    }

    /// Reads a configuration and keeps unknown keys.
    ///
    /// # Errors
    /// If a value has the wrong type, or an unsupported feature is turned on.
    fn from_fields(mut fields: Fields) -> Result<Self> {
        fields.take_value("peft_type");
        let mut absent = Map::new();
        for key in Self::WITHOUT {
            if let Some(value) = fields.take_value(key) {
                absent.insert(key.to_string(), value);
            }
        }
        let common = CommonConfig::from_fields(&mut fields)?;
        for (key, only) in Self::fixed() {
            fields.take_turned_off(key, only, &mut Map::new())?;
        }
        let mut config: Self = fields.take_struct()?;
        *config.common_mut() = common;
        absent.extend(fields.rest());
        config.common_mut().unknown = absent;
        Ok(config)
    }

    /// Every key that PEFT writes, and the unknown ones.
    fn to_json(&self) -> Map<String, Value> {
        let mut map = self.common().to_json(Self::PEFT_TYPE);
        for key in Self::WITHOUT {
            map.shift_remove(*key);
        }
        map.extend(self.common().unknown.clone());
        for (key, value) in Self::fixed() {
            map.insert(key.to_string(), value);
        }
        map.extend(own_keys(self));
        map
    }
}

/// The configuration's own keys, without the shared ones.
///
/// # Panics
/// If the configuration does not serialise to a JSON object, which is a programming error.
pub(super) fn own_keys<T: Serialize>(config: &T) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(map)) => map,
        other => panic!("the keys of a configuration are not a JSON object: {other:?}"),
    }
}

/// Python's `bool(value)`.
pub(super) fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Implements [`Keys`] for a struct with a field `common: CommonConfig` that serde skips, and gives
/// it `new` and the setters that every layer method has: `peft_config!(IA3Config, "IA3", "IA3",
/// without: ["layers_pattern"])`.
#[macro_export]
macro_rules! peft_config {
    ($config:ty, $peft_type:literal, $class:literal, without: [$($key:literal),*] $(, fixed: $fixed:expr)?) => {
        impl $crate::config::Keys for $config {
            const PEFT_TYPE: &'static str = $peft_type;
            const CLASS_NAME: &'static str = $class;
            const WITHOUT: &'static [&'static str] = &[$($key),*];

            fn common(&self) -> &$crate::config::CommonConfig {
                &self.common
            }

            fn common_mut(&mut self) -> &mut $crate::config::CommonConfig {
                &mut self.common
            }

            $(fn fixed() -> Vec<(&'static str, $crate::serde_json::Value)> {
                $fixed
            })?
        }

        #[allow(dead_code)]
        impl $config {
            /// The defaults, PEFT's where it has such a method.
            pub fn new() -> Self {
                Self::default()
            }

            $crate::layer_setters!();
        }
    };
}

/// The setters that the configurations of all layer methods have.
#[doc(hidden)]
#[macro_export]
macro_rules! layer_setters {
    () => {
        /// Sets the layers to adapt: a list of names, a regular expression for their whole
        /// paths, or `all-linear`.
        pub fn with_target_modules(
            mut self,
            modules: impl Into<$crate::config::TargetModules>,
        ) -> Self {
            self.common.target_modules = Some(modules.into());
            self
        }

        /// Sets the layers not to adapt: a list of names, or a regular expression for their
        /// whole paths.
        pub fn with_exclude_modules(
            mut self,
            modules: impl Into<$crate::config::TargetModules>,
        ) -> Self {
            self.common.exclude_modules = Some(modules.into());
            self
        }

        /// Sets the modules to copy, train and save in full.
        pub fn with_modules_to_save<S: Into<String>>(
            mut self,
            names: impl IntoIterator<Item = S>,
        ) -> Self {
            self.common.modules_to_save = Some(names.into_iter().map(Into::into).collect());
            self
        }
    };
}

/// The functions of [`Method`](crate::Method) that [`Keys`] can implement. With `fan_in_fan_out`, a
/// field of that name is set to match the layers, as PEFT does when it attaches.
#[macro_export]
macro_rules! method_of_keys {
    () => {
        fn peft_type(&self) -> &str {
            <Self as $crate::config::Keys>::PEFT_TYPE
        }

        fn class_name(&self) -> &str {
            <Self as $crate::config::Keys>::CLASS_NAME
        }

        fn common(&self) -> &$crate::config::CommonConfig {
            &self.common
        }

        fn with_common(
            &self,
            common: $crate::config::CommonConfig,
        ) -> std::sync::Arc<dyn $crate::Method> {
            let mut config = self.clone();
            config.common = common;
            std::sync::Arc::new(config)
        }

        fn to_json(&self) -> $crate::serde_json::Map<String, $crate::serde_json::Value> {
            $crate::config::Keys::to_json(self)
        }

        fn optional_keys(&self) -> Vec<&'static str> {
            let fixed = <Self as $crate::config::Keys>::fixed().into_iter();
            fixed.map(|(key, _)| key).collect()
        }
    };
    (fan_in_fan_out) => {
        $crate::method_of_keys!();

        fn attached(
            &self,
            common: $crate::config::CommonConfig,
            layers: &[&$crate::LayerInfo],
        ) -> std::sync::Arc<dyn $crate::Method> {
            let mut config = self.clone();
            config.common = common;
            config.fan_in_fan_out |= layers
                .iter()
                .any(|layer| layer.kind == $crate::LayerKind::Conv1D);
            std::sync::Arc::new(config)
        }
    };
}
