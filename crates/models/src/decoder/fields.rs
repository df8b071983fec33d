//! What models answer from their fields, and what they leave to [`Decoder`](super::Decoder).

/// The functions of [`Decoder`](super::Decoder) that return fields: the token embeddings, the head,
/// and `config`.
macro_rules! decoder_fields {
    ($($embedding:ident).+, $head:ident) => {
        fn config(&self) -> &Self::Config {
            &self.config
        }

        fn config_mut(&mut self) -> &mut Self::Config {
            &mut self.config
        }

        fn embedding(&self) -> &LoraAdapter<Embedding> {
            &self.$($embedding).+
        }

        fn embedding_mut(&mut self) -> &mut LoraAdapter<Embedding> {
            &mut self.$($embedding).+
        }

        fn head(&self) -> &Option<LoraAdapter<Linear>> {
            &self.$head
        }

        fn head_mut(&mut self) -> &mut Option<LoraAdapter<Linear>> {
            &mut self.$head
        }
    };
}

/// The functions of [`Adaptable`](burn_peft::Adaptable) that [`Decoder`](super::Decoder) has.
macro_rules! changed_by_decoder {
    () => {
        fn untie_output(&mut self) -> bool {
            self.untie();
            true
        }

        fn resize_vocabulary(&mut self, rows: usize) -> bool {
            self.resize(rows);
            true
        }

        fn model_info(&self) -> Option<burn_peft::ModelInfo> {
            Some(self.openings())
        }
    };
}

pub(crate) use {changed_by_decoder, decoder_fields};
