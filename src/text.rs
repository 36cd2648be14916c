//! Texts that people see in tables and logs.

use crate::error::ConfigError;

/// Refuses a text that is too long, or that would not be shown as it is: line breaks, escape sequences, invisible characters.
pub(crate) fn check_text(what: &str, text: &str, most: usize) -> Result<(), ConfigError> {
    if text.chars().count() > most || text.chars().any(is_hidden) {
        let message = format!("at most {most} characters, none of them control or invisible characters");
        return Err(ConfigError::new(message).at(what));
    }
    Ok(())
}

/// Control characters, those that turn the direction of text around, and those of no width (Unicode's categories Cc, Cf, Zl
/// and Zp, and fillers that show nothing).
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}
