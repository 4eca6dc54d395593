//! The policies that come into force one after the other: rules that allow everything, and budgets.

use std::sync::{Arc, LazyLock};

use crate::ledger::tests::kit::policy;
use crate::ledger::tests::simulation::record::Budget;
use crate::policy::Policy;

const SPENT: Budget = Budget { id: "b", ether: true, per_client: true, window: 60_000, max: 60_000_000 };
const TOTAL: Budget = Budget { id: "total", ether: false, per_client: false, window: 600_000, max: 25 };

/// The budgets of each policy; the last has none.
pub const POLICIES: [&[Budget]; 4] = [
    &[SPENT, TOTAL],
    &[Budget { max: 25_000_000, ..SPENT }, TOTAL],
    &[Budget { window: 120_000, per_client: false, max: 40_000_000, ..SPENT }],
    &[],
];

/// As the program reads them.
pub static READ: LazyLock<Vec<Arc<Policy>>> = LazyLock::new(|| {
    POLICIES.iter().map(|budgets| policy(&budgets.iter().map(text).collect::<String>())).collect()
});

fn text(budget: &Budget) -> String {
    let Budget { id, ether, per_client, window, max } = budget;
    let (what, unit) = if *ether { ("asset = \"ether\"", " wei") } else { ("sum = \"count\"", "") };
    let max = if *ether { format!("\"{max}{unit}\"") } else { max.to_string() };
    let per = if *per_client { "client" } else { "from" };
    format!(
        "[[budget]]\nid = \"{id}\"\nwindow = \"{}s\"\n{what}\nmax = {max}\nper = [\"{per}\"]\n",
        window / 1000
    )
}
