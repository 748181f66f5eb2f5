//! Objects of one kind, found by namespace and name; a copy shares them.

use std::{cmp::Ordering, ops::Deref, sync::Arc};

use kube::ResourceExt;

/// Objects in the order of namespace and name.
#[derive(Debug)]
pub struct Shelf<K>(Arc<Vec<Arc<K>>>);

impl<K> Clone for Shelf<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Default for Shelf<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K> Deref for Shelf<K> {
    type Target = [Arc<K>];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'a, K> IntoIterator for &'a Shelf<K> {
    type Item = &'a Arc<K>;
    type IntoIter = std::slice::Iter<'a, Arc<K>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<K: ResourceExt> From<Vec<Arc<K>>> for Shelf<K> {
    /// Of those that have one name, the last one stays.
    fn from(mut all: Vec<Arc<K>>) -> Self {
        all.reverse();
        all.sort_by(|a, b| key(&**a).cmp(&key(&**b)));
        all.dedup_by(|later, kept| key(&**later) == key(&**kept));
        Self(Arc::new(all))
    }
}

impl<K: ResourceExt> FromIterator<Arc<K>> for Shelf<K> {
    fn from_iter<T: IntoIterator<Item = Arc<K>>>(all: T) -> Self {
        all.into_iter().collect::<Vec<_>>().into()
    }
}

/// What an object is found by.
fn key<K: ResourceExt>(object: &K) -> (&str, &str) {
    let meta = object.meta();
    (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

impl<K: ResourceExt> Shelf<K> {
    /// The object of this name; what belongs to the whole Kubernetes cluster has no namespace.
    #[must_use]
    pub fn get(&self, namespace: Option<&str>, name: &str) -> Option<&Arc<K>> {
        self.place((namespace.unwrap_or_default(), name)).ok().and_then(|at| self.0.get(at))
    }

    /// Puts it in the place of the one of its name.
    pub fn put(&mut self, object: Arc<K>) {
        let place = self.place(key(&*object));
        let all = Arc::make_mut(&mut self.0);
        match place {
            Ok(at) => all[at] = object,
            Err(at) => all.insert(at, object),
        }
    }

    /// Takes it away.
    pub fn remove(&mut self, namespace: Option<&str>, name: &str) {
        if let Ok(at) = self.place((namespace.unwrap_or_default(), name)) {
            Arc::make_mut(&mut self.0).remove(at);
        }
    }

    /// What was read of the object of this name: itself, or that it is not there.
    pub fn set(&mut self, namespace: Option<&str>, name: &str, live: Option<K>) {
        match live {
            Some(object) => self.put(Arc::new(object)),
            None => self.remove(namespace, name),
        }
    }

    /// All that is in one namespace, or everything, gives way to these.
    pub fn replace(&mut self, namespace: Option<&str>, listed: Vec<Arc<K>>) {
        let is_elsewhere = |object: &&Arc<K>| namespace.is_some_and(|of| key(&***object).0 != of);
        *self = self.0.iter().filter(is_elsewhere).cloned().chain(listed).collect();
    }

    fn place(&self, wanted: (&str, &str)) -> Result<usize, usize> {
        self.0.binary_search_by(|object| -> Ordering { key(&**object).cmp(&wanted) })
    }
}

/// Tests change what is there, but for its name.
#[cfg(test)]
impl<K> std::ops::DerefMut for Shelf<K> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        Arc::<Vec<Arc<K>>>::make_mut(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Node};
    use serde_json::json;

    use super::*;

    /// `namespace/name=value`.
    fn map(text: &str) -> ConfigMap {
        let (key, value) = text.split_once('=').unwrap();
        let (namespace, name) = key.split_once('/').unwrap();
        serde_json::from_value(
            json!({"metadata": {"namespace": namespace, "name": name}, "data": {"value": value}}),
        )
        .unwrap()
    }

    fn shelf(all: &str) -> Shelf<ConfigMap> {
        all.split_whitespace().map(|text| Arc::new(map(text))).collect()
    }

    fn shown(shelf: &Shelf<ConfigMap>) -> String {
        let one = |object: &Arc<ConfigMap>| {
            let (namespace, name) = key(&**object);
            format!("{namespace}/{name}={}", object.data.as_ref().unwrap()["value"])
        };
        shelf.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_object_is_found_by_namespace_and_name_and_by_no_other() {
        let shelf = shelf("b/x=1 a/y=2 a/x=3 b/a=4 a/xx=5 a/x=6");
        assert_eq!(shown(&shelf), "a/x=6 a/xx=5 a/y=2 b/a=4 b/x=1", "in order, and the last of a name");
        for (namespace, name, found) in [
            ("a", "x", Some("6")),
            ("a", "xx", Some("5")),
            ("b", "x", Some("1")),
            ("b", "y", None),
            ("c", "x", None),
            ("", "x", None),
            ("a", "", None),
        ] {
            let value =
                shelf.get(Some(namespace), name).map(|map| map.data.as_ref().unwrap()["value"].as_str());
            assert_eq!(value, found, "{namespace}/{name}");
        }
        assert!(shelf.get(None, "x").is_none());
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n1"}})).unwrap();
        let nodes: Shelf<Node> = [Arc::new(node)].into_iter().collect();
        assert!(nodes.get(None, "n1").is_some() && nodes.get(None, "n2").is_none());
    }

    #[test]
    fn a_change_is_one_objects_and_no_earlier_copys() {
        type Change = fn(&mut Shelf<ConfigMap>);
        let cases: [(&str, Change, &str); 7] = [
            ("put over", |s| s.put(Arc::new(map("a/x=9"))), "a/x=9 a/y=2 b/x=3"),
            ("put between", |s| s.put(Arc::new(map("a/xx=9"))), "a/x=1 a/xx=9 a/y=2 b/x=3"),
            ("removed", |s| s.remove(Some("a"), "y"), "a/x=1 b/x=3"),
            ("not there", |s| s.remove(Some("b"), "y"), "a/x=1 a/y=2 b/x=3"),
            ("read", |s| s.set(Some("b"), "x", Some(map("b/x=9"))), "a/x=1 a/y=2 b/x=9"),
            ("read and gone", |s| s.set(Some("b"), "x", None), "a/x=1 a/y=2"),
            ("a namespace's list", |s| s.replace(Some("a"), vec![Arc::new(map("a/z=9"))]), "a/z=9 b/x=3"),
        ];
        for (what, change, after) in cases {
            let before = shelf("a/x=1 a/y=2 b/x=3");
            let mut changed = before.clone();
            change(&mut changed);
            assert_eq!(shown(&changed), after, "{what}");
            assert_eq!(shown(&before), "a/x=1 a/y=2 b/x=3", "{what}: what was looked at before");
        }
        let mut all = shelf("a/x=1 b/x=3");
        all.replace(None, vec![Arc::new(map("c/x=9"))]);
        assert_eq!(shown(&all), "c/x=9");
    }
}
