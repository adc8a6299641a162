//! The token by which roles know each other, where configuration has it.

use super::StackError;
use crate::{
    adapters::endpoint::read_secret,
    config::{self, Serve},
    services::kit::Secret,
};

/// The service token that is configured, if one is.
///
/// # Errors
/// [`StackError::Token`] if the file that is named does not hold one.
pub fn configured(serve: &config::Serve) -> Result<Option<Secret>, StackError> {
    if !serve.service_token.0.is_empty() {
        return Ok(Some(Secret(serve.service_token.0.as_str().into())));
    }
    let path = &serve.service_token_file;
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let named =
        |why: &str| StackError::Token(format!("cannot be read from `{}`: {why}", path.display()));
    let token = read_secret(path).map_err(|error| named(&error.to_string()))?;
    if !Serve::is_token(&token.0) {
        return Err(named("it must hold 32 to 1,024 visible characters"));
    }
    Ok(Some(Secret(token.0.into())))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_token_is_taken_from_a_file_whole_and_is_never_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let serve = Serve { service_token_file: path.clone(), ..Serve::default() };
        assert!(configured(&Serve::default()).unwrap().is_none());
        let missing = configured(&serve).unwrap_err().to_string();
        assert!(missing.contains("token`: "), "{missing}");
        fs::write(&path, format!("{}\n", "7".repeat(64))).unwrap();
        assert!(configured(&serve).unwrap().unwrap().is("7".repeat(64).as_bytes()));
        fs::write(&path, "hunter2").unwrap();
        let short = configured(&serve).unwrap_err().to_string();
        assert!(short.contains("32 to 1,024") && !short.contains("hunter2"), "{short}");
    }
}
