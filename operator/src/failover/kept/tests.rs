use kube::core::DeserializeGuard;
use mailcluster_api::MailStore;
use serde_json::json;

use super::{super::unreadable::readable, *};

type Guarded = DeserializeGuard<MailStore>;

/// `namespace/name=pin`; one whose pin is `?` is of a kind that this version does not know.
fn store(text: &str) -> Guarded {
    let (key, pin) = text.split_once('=').unwrap();
    let (namespace, name) = key.split_once('/').unwrap();
    let kind = if pin == "?" { "Later" } else { "Mail" };
    serde_json::from_value(json!({
        "apiVersion": "mailcluster.io/v1alpha1", "kind": "MailStore",
        "metadata": {"namespace": namespace, "name": name, "managedFields": [{"manager": "m"}]},
        "spec": {"kind": kind, "cluster": "demo", "replicas": [], "pinnedNode": pin},
    }))
    .unwrap()
}

fn keeper(namespace: Option<&str>, content: &Arc<RwLock<Content<MailStore>>>) -> Keeper<MailStore> {
    let shown = watch::channel(false).0;
    Keeper { content: content.clone(), namespace: namespace.map(str::to_owned), listed: Vec::new(), shown }
}

fn list(keeper: &mut Keeper<MailStore>, all: &str) {
    keeper.take(Event::Init, readable);
    for text in all.split_whitespace() {
        keeper.take(Event::InitApply(store(text)), readable);
    }
    keeper.take(Event::InitDone, readable);
}

/// What can be read, then what cannot.
fn shown(content: &RwLock<Content<MailStore>>) -> String {
    let content = content.read().unwrap();
    let good = content.good.iter().map(|store| {
        assert_eq!(store.metadata.managed_fields, None);
        let pin = store.spec.pinned_node.as_deref().unwrap();
        format!("{}/{}={pin}", store.namespace().unwrap(), store.name_any())
    });
    let name =
        |i: &Invalid| format!("{}/{}", i.about.namespace.clone().unwrap(), i.about.name.clone().unwrap());
    let bad = content.bad.iter().map(|i| format!("!{}", name(i)));
    good.chain(bad).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_kept_follows_the_watch() {
    let cases: [(&str, Vec<Event<Guarded>>, &str); 7] = [
        ("written", vec![Event::Apply(store("a/x=9"))], "a/x=9 a/y=2 !a/z"),
        ("new", vec![Event::Apply(store("a/w=9"))], "a/w=9 a/x=1 a/y=2 !a/z"),
        ("deleted", vec![Event::Delete(store("a/x=1"))], "a/y=2 !a/z"),
        ("no longer readable", vec![Event::Apply(store("a/x=?"))], "a/y=2 !a/z !a/x"),
        ("readable again", vec![Event::Apply(store("a/z=3"))], "a/x=1 a/y=2 a/z=3"),
        ("unreadable and deleted", vec![Event::Delete(store("a/z=?"))], "a/x=1 a/y=2"),
        (
            "a list that is not done yet",
            vec![Event::Init, Event::InitApply(store("a/v=1"))],
            "a/x=1 a/y=2 !a/z",
        ),
    ];
    for (what, events, after) in cases {
        let content = Arc::default();
        let mut keeper = keeper(None, &content);
        list(&mut keeper, "a/x=1 a/y=2 a/z=?");
        events.into_iter().for_each(|event| keeper.take(event, readable));
        assert_eq!(shown(&content), after, "{what}");
    }
}

#[test]
fn a_list_gives_way_to_the_next_one_of_its_namespace_alone() {
    let content = Arc::default();
    let (mut a, mut b) = (keeper(Some("a"), &content), keeper(Some("b"), &content));
    list(&mut a, "a/x=1 a/y=?");
    assert!(*a.shown.borrow() && !*b.shown.borrow(), "one has shown what there is");
    list(&mut b, "b/x=2");
    assert_eq!(shown(&content), "a/x=1 b/x=2 !a/y");
    list(&mut a, "a/z=3");
    assert_eq!(shown(&content), "a/z=3 b/x=2");
    list(&mut b, "");
    assert_eq!(shown(&content), "a/z=3");
}
