//! Watching the other ranks: begins when they have joined, and ends with them.

use std::sync::{Mutex, PoisonError};

use super::watch::Watch;

static WATCH: Mutex<Option<Watch>> = Mutex::new(None);

/// Tells the others that this rank's work is done, so that they continue without it.
pub fn done() {
    if let Some(watch) = take() {
        watch.done();
    }
}

/// Tells the others that this rank ends before its work is done, so that they end too.
pub fn failed() {
    if let Some(watch) = take() {
        watch.failed();
    }
}

fn take() -> Option<Watch> {
    WATCH.lock().unwrap_or_else(PoisonError::into_inner).take()
}

#[cfg(feature = "mpi")]
pub use self::over_mpi::begin;

#[cfg(feature = "mpi")]
mod over_mpi {
    use std::collections::hash_map::RandomState;
    use std::hash::{BuildHasher, Hasher};
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Duration;

    use anyhow::{Context, Result};
    use burn_peft_models::gguf::remove_folders;
    use burn_peft_train::Exchange;
    use if_addrs::get_if_addrs;

    use super::WATCH;
    use crate::failure::tell;
    use crate::ranks::watch::{Lost, Place, Watch};

    /// Begins to watch the other ranks; called by all ranks.
    pub fn begin(exchange: &dyn Exchange) -> Result<()> {
        let name = exchange.name();
        let end = move |what| end(&name, what);
        let first = exchange.is_first();
        let listener = first.then(listen).transpose();
        let listener = listener.context("cannot listen for the other ranks")?;
        let mut place = match &listener {
            Some((_, place)) => format!("{} {}", place.text(), exchange.host()).into_bytes(),
            None => Vec::new(),
        };
        exchange.broadcast(0, &mut place)?;
        let place = String::from_utf8_lossy(&place).into_owned();
        let (place, host) = place.rsplit_once(' ').unwrap_or_default();
        let watch = match (listener, Place::from_text(place)) {
            (Some((listener, place)), _) => Watch::first(listener, place.secret, end),
            (None, Some(place)) => {
                let first = format!("rank 0 on {host}");
                Watch::join(&place, &exchange.name(), &first, end)
            }
            (None, None) => return Ok(()),
        };
        match watch {
            Ok(watch) => *WATCH.lock().unwrap_or_else(|lock| lock.into_inner()) = Some(watch),
            // They compute all the same.
            Err(error) => {
                let warning = format!(
                    "{}: warning: rank 0 on {host} cannot be watched over ({error}): if it hangs, so \
                     does the run\n",
                    exchange.name()
                );
                // If rank 0 has failed already, it has ended this process by then.
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_secs(3));
                    tell(&warning);
                });
            }
        }
        Ok(())
    }

    /// An address for the others to connect to.
    fn listen() -> std::io::Result<(TcpListener, Place)> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let port = listener.local_addr()?.port();
        let mut found = get_if_addrs()?;
        found.retain(|interface| interface.ip().is_ipv4());
        // With several network namespaces, others on this host have a loopback of their own.
        found.sort_by_key(|interface| interface.is_loopback());
        let word = || RandomState::new().build_hasher().finish();
        let place = Place {
            secret: format!("{:x}{:x}", word(), word()),
            port,
            addresses: found.iter().map(|interface| interface.ip()).collect(),
        };
        Ok((listener, place))
    }

    /// Ends this process, whatever it is doing.
    fn end(name: &str, what: Lost) {
        if let Lost::Noticed(said) = what {
            tell(&format!(
                "{name}: error: {said}; all ranks end, and --resume continues from the last checkpoint\n"
            ));
        }
        remove_folders();
        // No destructors: other threads wait within MPI, which would wait for them.
        // SAFETY: it has no preconditions.
        unsafe { libc::_exit(1) }
    }
}
