//! Tokens of administrators, checked by the Kubernetes API.

use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::{Api, Client, api::PostParams};
use mailcluster_directory::serve::{TokenAuthority, TokenError, TokenUser};

/// Asks by TokenReview.
pub struct ReviewedTokens {
    reviews: Api<TokenReview>,
}

impl ReviewedTokens {
    /// As the pod's ServiceAccount, which may create TokenReviews.
    pub fn new(client: Client) -> Self {
        Self { reviews: Api::all(client) }
    }
}

#[async_trait]
impl TokenAuthority for ReviewedTokens {
    async fn review(&self, token: &str) -> Result<TokenUser, TokenError> {
        let spec = TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = self.reviews.create(&PostParams::default(), &review).await;
        let status =
            answer.map_err(|error| TokenError::Unavailable(error.to_string()))?.status.unwrap_or_default();
        let name = status.user.and_then(|user| user.username).filter(|_| status.authenticated == Some(true));
        name.map(|name| TokenUser { name }).ok_or(TokenError::Denied)
    }
}
