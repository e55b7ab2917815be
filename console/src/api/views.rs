//! Where the views are. They may not be there yet, and a replay may put others in their place.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use keyledger_projector::ViewsError;
use keyledger_projector::read::{self, Views};
use tokio::sync::Mutex;

/// The views behind one URL: opened when first asked for, and again when others are in their place.
///
/// Roles start in any order, so that the views are missing at first is ordinary.
#[derive(Debug)]
pub struct ViewsAt {
    url: String,
    /// `None` where a server has them.
    file: Option<PathBuf>,
    opened: Mutex<Option<Opened>>,
    on_server: OnceLock<Views>,
}

#[derive(Debug)]
struct Opened {
    /// Device and inode.
    place: (u64, u64),
    views: Views,
}

impl ViewsAt {
    /// The views at `url`, `sqlite:…` or `postgres:…`. Nothing is opened yet.
    ///
    /// # Errors
    ///
    /// [`ViewsError::Database`] when the URL is none.
    pub fn new(url: impl Into<String>) -> Result<Self, ViewsError> {
        let url = url.into();
        let file = read::file_of(&url)?;
        Ok(Self { url, file, opened: Mutex::new(None), on_server: OnceLock::new() })
    }

    /// The views as they are now.
    ///
    /// # Errors
    ///
    /// [`ViewsError::Unusable`] while there are none, or another build's; ask again later.
    pub async fn open(&self) -> Result<Views, ViewsError> {
        match &self.file {
            Some(file) => self.open_file(file.clone()).await,
            None => self.open_on_server().await,
        }
    }

    async fn open_file(&self, file: PathBuf) -> Result<Views, ViewsError> {
        let place = std::fs::metadata(file).ok().map(|file| (file.dev(), file.ino()));
        let mut opened = self.opened.lock().await;
        if let Some(opened) = &*opened
            && Some(opened.place) == place
        {
            return Ok(opened.views.clone());
        }
        // Readers of the old file finish on it; its connections close with the last of them.
        *opened = None;
        let views = Views::open_read(&self.url).await?;
        if let Some(place) = place {
            *opened = Some(Opened { place, views: views.clone() });
        }
        Ok(views)
    }

    /// Connections are kept whatever views there are: a name on the server means those that are there when it is asked.
    async fn open_on_server(&self) -> Result<Views, ViewsError> {
        let views = if let Some(views) = self.on_server.get() {
            views
        } else {
            let views = Views::on_server(&self.url)?;
            self.on_server.get_or_init(|| views)
        };
        views.require_todays().await?;
        Ok(views.clone())
    }
}
