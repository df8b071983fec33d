//! The rows of a batch on the host, without padding, and the place of each token in a matrix.

use burn::tensor::Device;
use burn_peft_kernels::rows_on;

use super::{Host, IGNORE_INDEX, Labelled, LmBatch, Ragged};
use crate::texts;

/// Tokens without padding, with their places in the flattened matrix `[batch, seq]`.
#[derive(Debug)]
pub(super) struct Rows {
    input_ids: Vec<i64>,
    /// The place of each token in the matrix, in ascending order.
    places: Vec<usize>,
    /// In terms of places in the matrix.
    labelled: Labelled,
    shape: [usize; 2],
    pad_id: i64,
    /// With packing, the number of the text that each token belongs to, counted in its row from 1.
    texts: Option<Vec<i64>>,
    /// The text of a pair that each token belongs to, 0 or 1.
    types: Option<Vec<i64>>,
}

impl Rows {
    /// The tokens of a matrix that `mask` does not leave out.
    pub fn of_matrix(ids: &[i64], mask: &[i64], labelled: Labelled, shape: [usize; 2]) -> Self {
        let places: Vec<usize> = (0..mask.len()).filter(|&at| mask[at] != 0).collect();
        Self {
            input_ids: places.iter().map(|&at| ids[at]).collect(),
            places,
            labelled,
            shape,
            pad_id: 0,
            texts: None,
            types: None,
        }
    }

    /// The rows one below the other, each from the first column.
    pub fn of_ragged(ragged: &Ragged<'_>) -> Self {
        let each: Vec<_> = (0..ragged.texts.len()).map(|text| text..text + 1).collect();
        let rows = ragged.packed.unwrap_or(&each);
        let (mut places, mut texts) = (Vec::new(), Vec::new());
        for (row, of_row) in rows.iter().enumerate() {
            let start = row * ragged.width;
            for (number, text) in (1..).zip(&ragged.texts[of_row.clone()]) {
                texts.extend(text.clone().map(|_| number));
            }
            let tokens: usize = ragged.texts[of_row.clone()].iter().map(|t| t.len()).sum();
            places.extend(start..start + tokens);
        }
        let labels = places.iter().zip(ragged.labels);
        let labels = labels
            .filter(|(at, label)| **label != IGNORE_INDEX && !at.is_multiple_of(ragged.width));
        let (positions, targets) = labels.map(|(at, label)| (at - 1, *label)).unzip();
        Self {
            input_ids: ragged.input_ids.to_vec(),
            places,
            labelled: Labelled { positions, targets },
            shape: [rows.len(), ragged.width],
            pad_id: ragged.pad_id,
            texts: ragged.packed.map(|_| texts),
            types: None,
        }
    }

    /// The same with the text of a pair that each token belongs to.
    pub fn with_types(self, types: Option<Vec<i64>>) -> Self {
        let types = types.filter(|types| types.len() == self.tokens());
        Self { types, ..self }
    }

    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    pub fn tokens(&self) -> usize {
        self.input_ids.len()
    }

    /// The place of a token in the flattened matrix.
    pub fn place(&self, token: usize) -> usize {
        self.places[token]
    }

    pub fn has_padding(&self) -> bool {
        self.input_ids.len() < self.shape[0] * self.shape[1]
    }

    /// The token ids in the matrix, with padding.
    pub fn in_matrix(&self) -> Vec<i64> {
        self.placed(&self.input_ids, self.pad_id)
    }

    /// The labels of the tokens in the matrix.
    pub fn labels_in_matrix(&self, labels: &[i64]) -> Vec<i64> {
        self.placed(labels, IGNORE_INDEX)
    }

    /// With packing, the numbers of the texts in the matrix; 0 is padding.
    pub fn segment_ids(&self) -> Option<Vec<i64>> {
        let texts = self.texts.as_ref();
        texts.map(|texts| self.placed(texts, 0))
    }

    fn placed(&self, values: &[i64], padding: i64) -> Vec<i64> {
        let mut all = vec![padding; self.shape[0] * self.shape[1]];
        for (&place, &value) in self.places.iter().zip(values) {
            all[place] = value;
        }
        all
    }

    /// The rows as a matrix, padded.
    pub fn as_matrix(&self, device: &Device) -> LmBatch {
        let (input_ids, mask) = (self.in_matrix(), self.placed(&vec![1; self.tokens()], 0));
        let types = self.types.as_ref().map(|types| self.placed(types, 0));
        let host = Host {
            shape: self.shape,
            input_ids: &input_ids,
            token_type_ids: types.as_deref(),
            attention_mask: self.has_padding().then_some(&mask),
            texts: texts::rows(Some(&mask), self.shape),
            ..Host::default()
        };
        let mut batch = LmBatch::of(host, self.labelled.clone(), device);
        batch.tokens = self.tokens();
        batch
    }

    /// The rows one after the other in a single row, each a separate text, because padding would
    /// cost as much as tokens do. `None` if nothing is predicted, or if a token is predicted from
    /// padding on its left.
    pub fn unpadded(&self, device: &Device) -> Option<LmBatch> {
        // On a GPU some padding follows, so that only few different sizes occur.
        self.unpadded_to(rows_on(device, self.tokens()), device)
    }

    /// As [`unpadded`](Self::unpadded), with padding at the end, up to this many places; it belongs
    /// to no text.
    fn unpadded_to(&self, places: usize, device: &Device) -> Option<LmBatch> {
        if self.labelled.positions.is_empty() {
            return None;
        }
        let mut at_place = vec![None; self.shape[0] * self.shape[1]];
        for (index, &place) in self.places.iter().enumerate() {
            at_place[place] = Some(index);
        }
        let positions = self.labelled.positions.iter().map(|&at| at_place[at]);
        let labelled = Labelled {
            positions: positions.collect::<Option<_>>()?,
            targets: self.labelled.targets.clone(),
        };
        let seq = self.shape[1];
        let numbers = |of: fn(usize, usize) -> usize| -> Vec<i64> {
            let places = self.places.iter();
            places.map(|&place| of(place, seq) as i64).collect()
        };
        let filled = |mut values: Vec<i64>, padding: i64| {
            values.resize(places, padding);
            values
        };
        let position_ids = filled(numbers(|place, seq| place % seq), 0);
        let segment_ids = numbers(|place, seq| place / seq + 1);
        let texts = texts::packed(&segment_ids, [1, self.tokens()]);
        let segment_ids = filled(segment_ids, 0);
        let input_ids = filled(self.input_ids.clone(), self.pad_id);
        let types = self.types.as_ref();
        let types = types.map(|types| filled(types.clone(), 0));
        let host = Host {
            shape: [1, places],
            input_ids: &input_ids,
            position_ids: Some(&position_ids),
            segment_ids: Some(&segment_ids),
            token_type_ids: types.as_deref(),
            texts,
            ..Host::default()
        };
        let mut batch = LmBatch::of(host, labelled, device);
        batch.tokens = self.tokens();
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CausalLm, Decoder, GPT2LMHeadModel, Gpt2Config, ModelConfig};
    use burn::module::{Module, ModuleVisitor, Param};
    use burn::optim::GradientsParams;
    use burn::tensor::{Int, Tensor, Tolerance};

    fn numbers(tensor: Tensor<2, Int>) -> Vec<i64> {
        tensor.into_data().iter::<i64>().collect()
    }

    /// The indices of the supervised positions.
    fn positions(batch: &LmBatch) -> Vec<i64> {
        let cells = batch.input.input_ids.dims().iter().product::<usize>();
        let all = Tensor::<1, Int>::arange(0..cells as i64, &Device::flex());
        let found = batch.supervised().there(all.float().unsqueeze_dim(1));
        found.int().into_data().iter::<i64>().collect()
    }

    fn unpadded(mask: [i64; 6], labels: [i64; 6]) -> [Vec<i64>; 2] {
        let ids = [5, 6, 7, 8, 9, 10];
        let batch = LmBatch::new(&ids, &mask, &labels, [2, 3], &Device::flex()).unwrap();
        let batch = batch.unpadded();
        [numbers(batch.input.input_ids.clone()), positions(batch)]
    }

    #[test]
    fn every_supervised_position_keeps_its_token() {
        let [ids, positions] = unpadded([1, 1, 0, 1, 1, 1], [5, 6, -100, 8, 9, 10]);
        assert_eq!(ids, [5, 6, 8, 9, 10]);
        assert_eq!(positions, [0, 2, 3]);
        let unchanged = |mask, labels| unpadded(mask, labels)[0].len() == 6;
        // 6 is predicted from the padding before it.
        assert!(unchanged([0, 1, 1, 1, 1, 1], [-100, 6, 7, 8, 9, 10]));
        assert!(!unchanged([0, 1, 1, 1, 1, 1], [-100, -100, 7, 8, 9, 10]));
        // There is nothing to leave out.
        assert!(unchanged([1; 6], [5, 6, 7, 8, 9, 10]));
    }

    #[test]
    fn ragged_rows_are_what_a_padded_matrix_of_them_is() {
        let device = Device::flex();
        let ragged = |packed: Option<&[std::ops::Range<usize>]>, width| {
            let ragged = Ragged {
                input_ids: &[5, 6, 8, 9, 10],
                labels: &[5, 6, 8, 9, 10],
                texts: &[0..2, 2..5],
                packed,
                width,
                pad_id: 1,
            };
            LmBatch::ragged(&ragged, &device)
        };
        let (ids, mask) = ([5, 6, 1, 8, 9, 10], [1, 1, 0, 1, 1, 1]);
        let labels = [5, 6, -100, 8, 9, 10];
        let padded = LmBatch::new(&ids, &mask, &labels, [2, 3], &device).unwrap();
        let batch = ragged(None, 3);
        assert_eq!((batch.count, batch.tokens), (3, 5));
        for (found, expected) in [(&batch, padded.unpadded()), (batch.as_matrix(), &padded)] {
            let (found_ids, ids) = (&found.input.input_ids, &expected.input.input_ids);
            assert_eq!(found_ids.dims(), ids.dims());
            assert_eq!(numbers(found_ids.clone()), numbers(ids.clone()));
            assert_eq!(positions(found), positions(expected));
            let last = |ids: &Tensor<2, Int>| numbers(ids.clone()).into_iter().max().unwrap();
            let last = found.input.position_ids.as_ref().map(last);
            assert_eq!(found.input.length, last.map(|last| last as usize + 1));
            assert_eq!(found.tokens, expected.tokens);
            let spans = |batch: &LmBatch| batch.input.texts.as_ref().unwrap().spans().to_vec();
            assert_eq!(spans(found), spans(expected));
        }
        // Both texts in one row, with a column of padding.
        let packed = ragged(Some(std::slice::from_ref(&(0..2))), 6);
        assert_eq!(packed.input.input_ids.dims(), [1, 6]);
        let segments = packed.input.segment_ids.clone().unwrap();
        assert_eq!(numbers(segments), [1, 1, 2, 2, 2, 0]);
        assert_eq!(positions(&packed), [0, 2, 3]);
    }

    /// All gradients, one after the other.
    struct Flat(GradientsParams, Vec<f32>);

    impl ModuleVisitor for Flat {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = self.0.get::<D>(param.id).expect("every tensor learns");
            self.1.extend(gradient.into_data().iter::<f32>());
        }
    }

    /// What follows the texts on a GPU.
    #[test]
    fn padding_behind_all_changes_neither_loss_nor_gradients() {
        let device = Device::flex().autodiff();
        let config = Gpt2Config::from_json(
            r#"{"model_type": "gpt2", "vocab_size": 23, "n_positions": 16, "n_embd": 16,
                "n_layer": 2, "n_head": 2, "initializer_range": 0.4,
                "embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}"#,
        );
        let model = GPT2LMHeadModel::new(&config.unwrap(), &device);
        let ids: Vec<i64> = (0..11).map(|i| i * 7 % 23).collect();
        let ragged = Ragged {
            input_ids: &ids,
            labels: &ids,
            texts: &[0..4, 4..5, 5..11],
            packed: None,
            width: 6,
            pad_id: 3,
        };
        let rows = Rows::of_ragged(&ragged);
        let run = |places| {
            let batch = rows.unpadded_to(places, &device).unwrap();
            assert_eq!(batch.input.input_ids.dims(), [1, places]);
            assert_eq!((batch.tokens, batch.count), (11, 8));
            let loss = model.loss(&batch);
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            let mut flat = Flat(gradients, vec![loss.into_scalar::<f32>()]);
            model.visit(&mut flat);
            let length = flat.1.len();
            burn::tensor::TensorData::new(flat.1, [length])
        };
        let expected = run(11);
        for places in [12, 16, 40] {
            let tolerance = Tolerance::<f32>::absolute(1e-6).set_relative(1e-5);
            run(places).assert_approx_eq(&expected, tolerance);
        }
    }
}
