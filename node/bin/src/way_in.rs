//! Checks of mail from other sites, as options or the configuration say.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result, bail};
use mailcluster_api::mailcluster::{DnsblAction, Inbound, InboundCheck, InboundSignatures};
use mailcluster_verdict::{Check, Checks, List, ListAction, Network, Settings};

use crate::args::WayInArgs;

/// A standalone node's; none when mail is taken as it is.
pub fn of_options(
    options: &WayInArgs,
    servers: &[SocketAddr],
    hostname: &str,
) -> Result<Option<Arc<Checks>>> {
    checks(parse(options)?, servers, hostname)
}

/// A cluster's, as its configuration says.
pub fn of_config(inbound: &Inbound, hostname: &str) -> Result<Option<Arc<Checks>>> {
    let check = |check| match check {
        InboundCheck::Off => Check::Off,
        InboundCheck::Mark => Check::Mark,
        InboundCheck::Enforce => Check::Enforce,
    };
    let action = |action| match action {
        DnsblAction::Mark => ListAction::Mark,
        DnsblAction::Junk => ListAction::Junk,
        DnsblAction::Reject => ListAction::Reject,
    };
    let lists = inbound.dnsbls.iter().map(|list| List {
        zone: list.zone.to_ascii_lowercase(),
        answers: list.answers.clone(),
        action: action(list.action),
    });
    let settings = Settings {
        spf: check(inbound.spf),
        dkim: inbound.dkim == InboundSignatures::Mark,
        dmarc: check(inbound.dmarc),
        lists: lists.collect(),
        allowed: networks(&inbound.allowed_cidrs)?,
    };
    checks(settings, &[], hostname)
}

fn checks(settings: Settings, servers: &[SocketAddr], hostname: &str) -> Result<Option<Arc<Checks>>> {
    settings.check()?;
    if settings.is_idle() {
        return Ok(None);
    }
    Ok(Some(Arc::new(Checks::new(settings, hostname, servers)?)))
}

fn parse(options: &WayInArgs) -> Result<Settings> {
    let check = |how: &str| match how {
        "mark" => Check::Mark,
        "enforce" => Check::Enforce,
        _ => Check::Off,
    };
    Ok(Settings {
        spf: check(&options.spf),
        dkim: options.dkim == "mark",
        dmarc: check(&options.dmarc),
        lists: options.dnsbls.iter().map(|text| list(text)).collect::<Result<_>>().context("--dnsbl")?,
        allowed: networks(&options.allowed).context("--allow")?,
    })
}

/// `ZONE=ACTION`.
fn list(text: &str) -> Result<List> {
    let action = |word| match word {
        "mark" => Some(ListAction::Mark),
        "junk" => Some(ListAction::Junk),
        "reject" => Some(ListAction::Reject),
        _ => None,
    };
    let parts = text.split_once('=').and_then(|(zone, word)| Some((zone, action(word)?)));
    let Some((zone, action)) = parts else { bail!("{text:?} is not ZONE=mark, ZONE=junk or ZONE=reject") };
    Ok(List { zone: zone.to_ascii_lowercase(), answers: Vec::new(), action })
}

fn networks(texts: &[String]) -> Result<Vec<Network>> {
    texts.iter().map(|text| text.parse::<Network>().map_err(anyhow::Error::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(spf: &str, dkim: &str, dmarc: &str) -> WayInArgs {
        WayInArgs { spf: spf.into(), dkim: dkim.into(), dmarc: dmarc.into(), ..WayInArgs::default() }
    }

    #[test]
    fn options_say_what_is_checked() {
        let marked = parse(&options("mark", "mark", "mark")).unwrap();
        assert_eq!(marked, Settings::mark());
        assert!(parse(&options("off", "off", "off")).unwrap().is_idle());
        assert!(parse(&options("off", "off", "enforce")).unwrap().check().is_err());
        assert_eq!(parse(&options("enforce", "mark", "enforce")).unwrap().dmarc, Check::Enforce);
        for (text, zone, action) in
            [("BL.example=reject", "bl.example", ListAction::Reject), ("a.b=junk", "a.b", ListAction::Junk)]
        {
            assert_eq!(list(text).unwrap(), List { zone: zone.into(), answers: vec![], action });
        }
        for bad in ["a.b", "a.b=", "a.b=refuse"] {
            assert!(list(bad).is_err(), "{bad}");
        }
        let allowed = WayInArgs { allowed: vec!["192.0.2.0/33".into()], ..options("mark", "off", "off") };
        assert!(parse(&allowed).is_err());
    }

    #[test]
    fn a_cluster_of_which_nothing_is_said_is_judged_and_marked() {
        let servers = ["127.0.0.1:53".parse().unwrap()];
        assert!(checks(Settings::mark(), &servers, "mail.example.org").unwrap().is_some());
        let off = Inbound {
            spf: InboundCheck::Off,
            dkim: InboundSignatures::Off,
            dmarc: InboundCheck::Off,
            ..Inbound::default()
        };
        assert!(of_config(&off, "mail.example.org").unwrap().is_none());
        let alone = Inbound { spf: InboundCheck::Off, ..Inbound::default() };
        assert!(of_config(&alone, "mail.example.org").is_err());
    }
}
