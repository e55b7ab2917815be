//! Where the views are. They may not be there yet, and a replay may put others in their place.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::str::FromStr;

use keyledger_projector::ViewsError;
use keyledger_projector::read::Views;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::sync::Mutex;

/// The views behind one URL: opened when first asked for, and again when another file is in their place.
///
/// Roles start in any order, so that the views are missing at first is ordinary.
#[derive(Debug)]
pub struct ViewsAt {
    url: String,
    file: PathBuf,
    opened: Mutex<Option<Opened>>,
}

#[derive(Debug)]
struct Opened {
    /// Device and inode.
    place: (u64, u64),
    views: Views,
}

impl ViewsAt {
    /// The views at `url`, `sqlite:…`. Nothing is opened yet.
    ///
    /// # Errors
    ///
    /// [`ViewsError::Database`] when the URL is none.
    pub fn new(url: impl Into<String>) -> Result<Self, ViewsError> {
        let url = url.into();
        let file = SqliteConnectOptions::from_str(&url)?.get_filename().to_path_buf();
        Ok(Self { url, file, opened: Mutex::new(None) })
    }

    /// The views as they are now.
    ///
    /// # Errors
    ///
    /// [`ViewsError::Unusable`] while there are none, or another build's; ask again later.
    pub async fn open(&self) -> Result<Views, ViewsError> {
        let place = std::fs::metadata(&self.file).ok().map(|file| (file.dev(), file.ino()));
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
}
