//! Operations and bytes by path, as a helper expects them and as the ledger counted them.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde_json::{Value, json};
use zc_common::path::{Condition, Mechanism, Row};
use zc_common::record::{CELL_NO_BUFFER, CELL_NO_DESCRIPTOR, Cell, FIRST_OBSERVED_CELL};
use zcprof::ledger::Counters;
use zcprof::model::Catalogue;

/// Bytes whose descriptor could not be resolved.
pub const NO_DESCRIPTOR: &str = "unclassified descriptor";
/// Bytes whose buffer could not be resolved.
pub const NO_BUFFER: &str = "unclassified buffer";
/// Bytes of a combination that the catalogue has no row for.
pub const NO_ROW: &str = "unclassified combination";

/// Operations and bytes by the name of the path: its id, with the condition after a blank where it has one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths(pub BTreeMap<String, (u64, u64)>);

impl Paths {
    /// Adds operations and bytes to a path.
    pub fn add(&mut self, path: &str, operations: u64, bytes: u64) {
        let sum = self.0.entry(path.to_owned()).or_default();
        sum.0 += operations;
        sum.1 += bytes;
    }

    /// What counters hold, but for what faults mapped or copied.
    #[must_use]
    pub fn of(catalogue: &Catalogue, counters: &Counters) -> Self {
        let mut paths = Self::default();
        // What lies behind the calls is on no path.
        for (cell, Cell { operations, bytes }) in
            counters.iter().filter(|(cell, _)| *cell < u16::from(FIRST_OBSERVED_CELL))
        {
            // Faults come as they like.
            let by_faults = |row: &Row| row.mechanism == Mechanism::Mmap && row.condition == Condition::Always;
            if !catalogue.row(cell).is_some_and(by_faults) {
                paths.add(&name(catalogue, cell), operations, bytes);
            }
        }
        paths
    }

    /// Operations and bytes of one path.
    #[must_use]
    pub fn get(&self, path: &str) -> (u64, u64) {
        self.0.get(path).copied().unwrap_or_default()
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.0.iter().map(|(path, (operations, bytes))| (path.clone(), json!([operations, bytes]))).collect()
    }

    /// From JSON.
    ///
    /// # Errors
    /// If it is not what [`Paths::to_json`] makes.
    pub fn from_json(value: &Value) -> anyhow::Result<Self> {
        let mut paths = Self::default();
        for (path, cell) in value.as_object().context("paths are an object")? {
            let number = |at: usize| cell.get(at).and_then(Value::as_u64).context("a path is two numbers");
            paths.add(path, number(0)?, number(1)?);
        }
        Ok(paths)
    }
}

fn name(catalogue: &Catalogue, cell: u16) -> String {
    match catalogue.row(cell) {
        Some(row) if row.condition == Condition::Always => row.id().to_string(),
        Some(row) => format!("{} {}", row.id(), row.condition),
        None if cell == u16::from(CELL_NO_DESCRIPTOR) => NO_DESCRIPTOR.to_owned(),
        None if cell == u16::from(CELL_NO_BUFFER) => NO_BUFFER.to_owned(),
        None => NO_ROW.to_owned(),
    }
}
