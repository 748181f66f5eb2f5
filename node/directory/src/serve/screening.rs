//! Screening over gRPC.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use mailcluster_rpc::directory::v1::{self as pb, screening_server};
use mailcluster_screen::Cidr;
use tonic::{Request, Response, Status};

use super::{Wish, admit, directory::DirectoryServer};
use crate::{ScreeningSource, screening};

/// Most of anything in one message.
const MOST: usize = 200_000;
/// Addresses of one frontend's own that are heeded.
const OWN: usize = 1000;

#[tonic::async_trait]
impl screening_server::Screening for DirectoryServer {
    async fn report(
        &self,
        request: Request<pb::ScreeningReport>,
    ) -> Result<Response<pb::ScreeningReportResponse>, Status> {
        admit(self.check(), request.extensions(), &Wish::Screening)?;
        let pb::ScreeningReport { seen, held } = request.into_inner();
        if seen.len() > MOST || held.len() > MOST {
            return Err(Status::invalid_argument(format!("more than {MOST} in a report")));
        }
        let seen = seen.into_iter().filter_map(screening::observation_from_pb).collect();
        let held = held.iter().filter_map(screening::ban_from_pb).collect();
        self.service().report(seen, held).await.map_err(|error| Status::unavailable(error.0))?;
        Ok(Response::new(pb::ScreeningReportResponse {}))
    }

    type NewsStream = Pin<Box<dyn Stream<Item = Result<pb::ScreeningNews, Status>> + Send>>;

    async fn news(
        &self,
        request: Request<pb::ScreeningNewsRequest>,
    ) -> Result<Response<Self::NewsStream>, Status> {
        admit(self.check(), request.extensions(), &Wish::Screening)?;
        let own = request.into_inner().own;
        let own: Vec<Cidr> = own.iter().take(OWN).filter_map(|own| own.parse().ok()).collect();
        let news = ScreeningSource::news(self.service(), own).await;
        let news = news.map_err(|error| Status::failed_precondition(error.0))?;
        Ok(Response::new(Box::pin(news.map(|told| match told {
            Ok(told) => Ok(screening::told_to_pb(told)),
            Err(error) => Err(Status::unavailable(error.0)),
        }))))
    }
}
