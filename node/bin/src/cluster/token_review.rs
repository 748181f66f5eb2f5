//! Tokens of administrators, checked by the Kubernetes API.

use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{Api, Client, api::PostParams};
use mailcluster_directory::serve::{TokenAuthority, TokenError, TokenUser};

/// Asks by TokenReview.
pub struct ReviewedTokens {
    reviews: Api<TokenReview>,
    audience: String,
}

impl ReviewedTokens {
    /// As the pod's ServiceAccount, which may create TokenReviews. Only tokens for `audience` are good here: one that
    /// leaked from somewhere else is not.
    pub fn new(client: Client, audience: String) -> Self {
        Self { reviews: Api::all(client), audience }
    }
}

#[async_trait]
impl TokenAuthority for ReviewedTokens {
    async fn review(&self, token: &str) -> Result<TokenUser, TokenError> {
        let spec =
            TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![self.audience.clone()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = self.reviews.create(&PostParams::default(), &review).await;
        let status = answer.map_err(|error| TokenError::Unavailable(error.to_string()))?.status;
        user(status.unwrap_or_default(), &self.audience)
    }
}

/// Whose token it is. An API server that leaves the audiences out has not looked at them: it answers for its own.
fn user(status: TokenReviewStatus, audience: &str) -> Result<TokenUser, TokenError> {
    let is_for_us = status.audiences.is_some_and(|all| all.iter().any(|one| one == audience));
    let name = status.user.and_then(|user| user.username);
    let name = name.filter(|name| !name.is_empty() && is_for_us && status.authenticated == Some(true));
    name.map(|name| TokenUser { name }).ok_or(TokenError::Denied)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    #[test]
    fn a_token_is_good_when_it_is_valid_and_for_us() {
        for (authenticated, name, audiences, is_good) in [
            (Some(true), "ann", Some(vec!["us"]), true),
            (Some(true), "ann", Some(vec!["them", "us"]), true),
            (Some(true), "ann", Some(vec!["them"]), false),
            (Some(true), "ann", Some(vec![]), false),
            (Some(true), "ann", None, false),
            (Some(false), "ann", Some(vec!["us"]), false),
            (None, "ann", Some(vec!["us"]), false),
            (Some(true), "", Some(vec!["us"]), false),
        ] {
            let status = TokenReviewStatus {
                authenticated,
                audiences: audiences.clone().map(|all| all.into_iter().map(str::to_owned).collect()),
                user: Some(UserInfo { username: Some(name.to_owned()), ..UserInfo::default() }),
                ..TokenReviewStatus::default()
            };
            assert_eq!(user(status, "us").is_ok(), is_good, "{authenticated:?} {name:?} {audiences:?}");
        }
        assert_eq!(user(TokenReviewStatus::default(), "us"), Err(TokenError::Denied));
    }
}
