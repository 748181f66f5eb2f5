//! The way to other sites, as options or the configuration say.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result, bail};
use mailcluster_api::{
    config::SMARTHOST_DIR,
    mailcluster::{Outbound, SmarthostTls},
};
use mailcluster_outbound::{
    route::{Smarthost, Way, Ways},
    schedule::Backoff,
    tls::policy::Override,
};
use mailcluster_queue::Out;
use mailcluster_relay::{Dns, Relay, Resolver, Settings, Signatures, SmarthostAccess, Tls};

use crate::args::WayOutArgs;

/// SMTP's port.
const PORT: u16 = 25;

/// A standalone node's; none when mail for other sites is not sent.
pub fn of_options(options: &WayOutArgs, servers: &[SocketAddr], hostname: &str) -> Result<Option<Out>> {
    let Some(way) = &options.outbound else { return Ok(None) };
    let mut settings = Settings::new(hostname.to_owned());
    settings.ways = Ways { default: parse(way).context("--outbound")?, ..Ways::default() };
    if let Some(port) = options.outbound_port {
        settings.port = port;
        settings.loopback_is_another = true;
    }
    settings.mta_sts = !options.no_mta_sts;
    if let Some(port) = options.mta_sts_port {
        settings.https_port = port;
    }
    let signatures = match options.dane {
        true => Signatures::Verified(options.dns_trust_anchor.clone()),
        false => Signatures::Ignored,
    };
    let mut out = out(settings, servers, &signatures)?;
    if let Some(first) = options.outbound_pause {
        out.backoff = Backoff { first, limit: first };
    }
    Ok(Some(out))
}

/// A cluster's, as its configuration says.
pub fn of_config(outbound: Option<&Outbound>, hostname: &str) -> Result<Option<Out>> {
    let Some(outbound) = outbound else { return Ok(None) };
    let mut settings = Settings::new(hostname.to_owned());
    if let Some(smarthost) = &outbound.smarthost {
        let host = smarthost.host.to_ascii_lowercase();
        let tls = Some(match smarthost.tls {
            SmarthostTls::Verify => Override::Verify,
            SmarthostTls::Encrypt => Override::Encrypt,
            SmarthostTls::May => Override::May,
        });
        let credentials = smarthost.credentials_secret.as_ref().map(|_| SMARTHOST_DIR.into());
        let access = SmarthostAccess { tls, credentials };
        settings.smarthosts.insert((host.clone(), smarthost.port), access);
        settings.ways.default = Way::Via(Smarthost { host, port: smarthost.port });
    }
    settings.mta_sts = outbound.mta_sts;
    let signatures = if outbound.dane { Signatures::Verified(None) } else { Signatures::Ignored };
    out(settings, &[], &signatures).map(Some)
}

fn out(settings: Settings, servers: &[SocketAddr], signatures: &Signatures) -> Result<Out> {
    let dns: Arc<dyn Dns> = Arc::new(Resolver::new(servers, signatures)?);
    Ok(Out::new(Arc::new(Relay::new(settings, dns, Tls::new(&[])?))))
}

/// `direct`, `HOST` or `HOST:PORT` (an IPv6 address in brackets).
fn parse(way: &str) -> Result<Way> {
    if way == "direct" {
        return Ok(Way::Direct);
    }
    let (host, port) = match way.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && (!host.contains(':') || host.ends_with(']')) => {
            (host, port.parse().with_context(|| format!("{port:?} is no port"))?)
        }
        _ => (way, PORT),
    };
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "@/[]".contains(c)) {
        bail!("{way:?} is neither `direct` nor HOST[:PORT]");
    }
    Ok(Way::Via(Smarthost { host: host.to_ascii_lowercase(), port }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_out_are_direct_or_a_host() {
        for (text, expected) in [
            ("relay.example.net", ("relay.example.net", 25)),
            ("Relay.example.net:587", ("relay.example.net", 587)),
            ("192.0.2.1:2525", ("192.0.2.1", 2525)),
            ("[2001:db8::1]:2525", ("2001:db8::1", 2525)),
            ("[2001:db8::1]", ("2001:db8::1", 25)),
            ("2001:db8::1", ("2001:db8::1", 25)),
        ] {
            let host = Smarthost { host: expected.0.to_owned(), port: expected.1 };
            assert_eq!(parse(text).unwrap(), Way::Via(host), "{text}");
        }
        assert_eq!(parse("direct").unwrap(), Way::Direct);
        for bad in ["", ":25", "relay:smtp", "relay:70000", "a b", "user@relay"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
