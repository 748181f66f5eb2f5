//! What each ServiceAccount may do, as the API server tells it.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    authorization::v1::{SelfSubjectRulesReview, SubjectAccessReview},
    core::v1::Pod,
};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde_json::json;

use crate::world::World;

/// The mail roles and the ServiceAccounts that stand for them.
const MAIL_ROLES: [(&str, &str); 4] = [
    ("frontend", "live-frontend"),
    ("backend", "live-0"),
    ("directory", "live-directory"),
    ("admin", "live-admin"),
];

/// `kubectl auth can-i --list` of each role, against a golden file of its own. `UPDATE_GOLDEN=1` writes them anew.
pub async fn of_roles(world: &World) {
    // What every ServiceAccount may do says nothing of ours.
    let everybody = rules(world, &account(&world.namespace, "nobody")).await;
    let mut roles: Vec<(&str, String)> =
        MAIL_ROLES.iter().map(|(role, name)| (*role, account(&world.namespace, name))).collect();
    if let Some(operator) = operator(world).await {
        roles.push(("operator", operator));
    }
    let mut wrong = Vec::new();
    for (role, user) in roles {
        let text: String = rules(world, &user).await.difference(&everybody).map(String::as_str).collect();
        let path = format!("{}/tests/golden/can-i-{role}.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap();
        if text != expected {
            wrong.push(format!("{role} may\n{text}and should\n{expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The user that a ServiceAccount is.
fn account(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// The installed operator.
async fn operator(world: &World) -> Option<String> {
    if !world.installed {
        return None;
    }
    let pods: Api<Pod> = Api::all(world.client.clone());
    let ours = ListParams::default().labels("app.kubernetes.io/name=mailcluster-operator");
    let pod = pods.list(&ours).await.unwrap().items.into_iter().next().expect("the operator is installed");
    let name = pod.spec?.service_account_name?;
    Some(account(&pod.metadata.namespace?, &name))
}

/// Each rule in a line: group/resource [names] verbs.
async fn rules(world: &World, user: &str) -> BTreeSet<String> {
    let reviews: Api<SelfSubjectRulesReview> = Api::all(world.as_user(user).await);
    let question = serde_json::from_value(json!({"spec": {"namespace": world.namespace}})).unwrap();
    let answer = reviews.create(&PostParams::default(), &question).await.unwrap();
    let words = |list: Option<Vec<String>>| list.unwrap_or_default().join(",");
    let mut lines = BTreeSet::new();
    for rule in answer.status.unwrap().resource_rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                let (names, verbs) = (words(rule.resource_names.clone()), rule.verbs.join(","));
                lines.insert(format!("{group}/{resource} [{names}] {verbs}\n"));
            }
        }
    }
    lines
}

/// The rights that matter most, asked for one by one; cluster-wide ones are asked without a namespace.
pub async fn asked_one_by_one(world: &World) {
    let tokens = ("create", "authentication.k8s.io", "tokenreviews", None);
    let own = Some(world.namespace.as_str());
    let secrets = |verb, namespace| (verb, "", "secrets", namespace);
    let mut questions = Vec::new();
    for (role, name) in MAIL_ROLES {
        let user = account(&world.namespace, name);
        questions.push((user.clone(), tokens, role == "directory"));
        for verb in ["get", "list", "watch", "create", "update", "patch", "delete"] {
            questions.push((user.clone(), secrets(verb, own), false));
            questions.push((user.clone(), (verb, "", "pods", own), false));
        }
    }
    if let Some(operator) = operator(world).await {
        questions.push((operator.clone(), secrets("list", own), true));
        // It lets directories review tokens, and cannot itself.
        questions.push((operator.clone(), tokens, false));
        questions.push((operator, ("create", "rbac.authorization.k8s.io", "clusterroles", None), false));
    }
    for (user, (verb, group, resource, namespace), expected) in questions {
        let groups = ["system:serviceaccounts", "system:authenticated"];
        let review = serde_json::from_value(json!({"spec": {"user": user, "groups": groups,
            "resourceAttributes": {"verb": verb, "group": group, "resource": resource, "namespace": namespace}}}))
        .unwrap();
        let reviews: Api<SubjectAccessReview> = Api::all(world.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
        let allowed = answer.status.unwrap().allowed;
        assert_eq!(allowed, expected, "may {user} {verb} {resource} in {namespace:?}?");
    }
}
