//! What the recorded settings say: which sources there are, and which license engines.

use std::collections::BTreeSet;

use keyledger_projector::ViewsError;
use keyledger_schemas::event::{Event, SETTINGS_STREAM};
use keyledger_schemas::ids::StreamId;
use keyledger_schemas::settings::DecidingSettings;

use super::{Api, View};
use crate::problem::Problem;

/// How many settings are read at a time.
const CHUNK: usize = 500;

impl Api {
    /// Refuses a source that was never configured and of which nothing is shown: most likely a slip, which must not read
    /// as "all is well".
    pub(super) async fn source_is_known(&self, view: &View) -> Result<(), Problem> {
        let Some(source) = &view.within.source else { return Ok(()) };
        let recorded = self.recorded_settings().await?;
        let known: BTreeSet<_> = recorded.iter().flat_map(|settings| settings.sources.keys()).collect();
        if known.contains(source) {
            return Ok(());
        }
        let is_shown = match self.views.open().await {
            Ok(views) => views.has_source(source).await?,
            Err(ViewsError::Unusable { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        // Before the first start nothing is known of any source.
        if is_shown || known.is_empty() {
            return Ok(());
        }
        let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
        Err(Problem::parameter("source", format!("there is no source `{source}`; known are {}", known.join(", "))))
    }

    /// The names of the license engines in the settings last recorded.
    pub(super) async fn configured_providers(&self) -> Result<BTreeSet<String>, Problem> {
        let last = self.recorded_settings().await?.pop();
        Ok(last.into_iter().flat_map(|settings| settings.providers).map(|name| name.to_string()).collect())
    }

    /// Every settings ever recorded, the last one last. There is one for each change that a person made.
    async fn recorded_settings(&self) -> Result<Vec<DecidingSettings>, Problem> {
        let stream = StreamId::new(SETTINGS_STREAM);
        let mut recorded = Vec::new();
        let mut version = 0;
        loop {
            let chunk = self.log.read_stream(&stream, version, CHUNK).await?;
            for event in &chunk {
                version = event.version;
                if let Ok(Some(Event::SettingsChanged(changed))) = Event::decode(&event.kind, &event.data) {
                    recorded.push(changed.settings);
                }
            }
            if chunk.len() < CHUNK {
                return Ok(recorded);
            }
        }
    }
}
