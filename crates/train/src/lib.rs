//! Training of adapters on Burn's Learner
