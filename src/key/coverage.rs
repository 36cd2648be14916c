//! Whether one grant is within another.

use crate::key::{Grant, Restriction};

/// Whether the wide grant allows everything that the narrow one allows.
pub(crate) fn covers(wide: &Grant, narrow: &Grant) -> bool {
    let restrictions =
        wide.restrictions().iter().all(|(dimension, wide)| match (wide, narrow.restriction(dimension)) {
            (Restriction::Include(wide), Some(Restriction::Include(narrow))) => {
                narrow.iter().all(|id| wide.contains(id))
            }
            (Restriction::Exclude(wide), Some(Restriction::Exclude(narrow))) => {
                wide.iter().all(|id| narrow.contains(id))
            }
            (Restriction::Exclude(wide), Some(Restriction::Include(narrow))) => {
                !narrow.iter().any(|id| wide.contains(id))
            }
            (Restriction::Exclude(wide), None) => wide.iter().next().is_none(),
            (Restriction::Include(_), _) => false,
        });
    let networks = match (wide.networks(), narrow.networks()) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => narrow.iter().all(|network| wide.iter().any(|known| known == network)),
        (Some(_), None) => false,
    };
    let origins = match (wide.origins(), narrow.origins()) {
        (None, None) => true,
        (Some(wide), Some(narrow)) => narrow.iter().all(|origin| wide.contains(origin)),
        // Without a list there is no origin that a rule would accept.
        (Some(_), None) => true,
        (None, Some(_)) => false,
    };
    restrictions && networks && origins && narrow.permissions().iter().all(|held| wide.permits(held))
}
