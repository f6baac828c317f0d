//! Each call of the provider as the SDK makes it.

use crate::access::{Access, Session};
use crate::{answers, errors};
use async_trait::async_trait;
use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::primitives::DateTime;
use aws_sdk_ec2::types::{Filter, InstanceType, RequestLaunchTemplateData};
use coordinator_aws::{ApiError, Ec2, Fleet, FleetAnswer, Found, SpotPrice, Subnet, Template, is_renewable};
use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Mutex;

/// For so long a template's default version is taken for what it was.
const DEFAULT_HOLDS: Duration = Duration::from_secs(60);
/// Of one page; the most that the API gives.
const PAGE: i32 = 1000;
/// The description of prices for Linux without licences, in VPCs.
const LINUX: &str = "Linux/UNIX";

/// EC2 in one region.
pub struct Client {
    session: Session,
    /// By template, with when it was looked up.
    defaults: Mutex<BTreeMap<String, (String, Instant)>>,
}

impl Client {
    /// Nothing is read or asked before the first call.
    #[must_use]
    pub fn new(region: &str, access: Access) -> Self {
        Self { session: Session::new(region, access), defaults: Mutex::default() }
    }

    /// Makes a call; once more with other credentials if the API says that they have run out.
    async fn call<T, E, F>(&self, call: impl Fn(aws_sdk_ec2::Client) -> F + Send + Sync) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send,
        E: ProvideErrorMetadata + Error + 'static,
    {
        let first = call(self.session.client().await).await.map_err(|error| errors::read(&error));
        match first {
            Err(error) if is_renewable(error.code()) && self.session.renew().await => {
                call(self.session.client().await).await.map_err(|error| errors::read(&error))
            }
            done => done,
        }
    }

    /// The number of a template's version.
    async fn number(&self, template: &Template) -> Result<String, ApiError> {
        if template.version != "$Default" {
            return Ok(template.version.clone());
        }
        let mut defaults = self.defaults.lock().await;
        if let Some((number, since)) = defaults.get(&template.name)
            && since.elapsed() < DEFAULT_HOLDS
        {
            return Ok(number.clone());
        }
        let (id, name) = id_or_name(template);
        let answer = self.call(|client| {
            let (id, name) = (id.clone(), name.clone());
            let request = client.describe_launch_template_versions().versions("$Default");
            request.set_launch_template_id(id).set_launch_template_name(name).send()
        });
        let answer = answer.await?;
        let number = answer.launch_template_versions().first().and_then(|version| version.version_number());
        let number = number.ok_or_else(|| unreadable("a launch template without a default version"))?.to_string();
        defaults.insert(template.name.clone(), (number.clone(), Instant::now()));
        Ok(number)
    }
}

#[async_trait]
impl Ec2 for Client {
    async fn subnets(&self, ids: &[String]) -> Result<Vec<Subnet>, ApiError> {
        let answer = self.call(|client| client.describe_subnets().set_subnet_ids(Some(ids.to_vec())).send()).await?;
        Ok(answer.subnets().iter().filter_map(answers::subnet).collect())
    }

    async fn add_version(
        &self,
        template: &Template,
        user_data: &str,
        token: &str,
        remark: &str,
    ) -> Result<String, ApiError> {
        let source = self.number(template).await?;
        let (id, name) = id_or_name(template);
        let user_data = aws_smithy_types::base64::encode(user_data);
        let answer = self.call(|client| {
            let data = RequestLaunchTemplateData::builder().user_data(&user_data).build();
            let request = client.create_launch_template_version().client_token(token).version_description(remark);
            let request = request.set_launch_template_id(id.clone()).set_launch_template_name(name.clone());
            request.source_version(&source).launch_template_data(data).send()
        });
        let answer = answer.await?;
        let number = answer.launch_template_version().and_then(|version| version.version_number());
        number.map(|number| number.to_string()).ok_or_else(|| unreadable("a new version without a number"))
    }

    async fn remove_versions(&self, template: &Template, versions: &[String]) -> Result<(), ApiError> {
        let (id, name) = id_or_name(template);
        let answer = self.call(|client| {
            let request = client.delete_launch_template_versions().set_versions(Some(versions.to_vec()));
            request.set_launch_template_id(id.clone()).set_launch_template_name(name.clone()).send()
        });
        answer.await.map(|_| ())
    }

    async fn create_fleet(&self, fleet: &Fleet) -> Result<FleetAnswer, ApiError> {
        let answer = self.call(|client| {
            let request = client.create_fleet().client_token(&fleet.token);
            answers::fill_fleet(request, fleet, id_or_name(&fleet.template)).send()
        });
        Ok(answers::fleet(&answer.await?))
    }

    async fn instances(&self, (key, value): (&str, &str)) -> Result<Vec<Found>, ApiError> {
        let filter = Filter::builder().name(format!("tag:{key}")).values(value).build();
        let mut found = Vec::new();
        let mut token = None;
        loop {
            let answer = self.call(|client| {
                let request = client.describe_instances().filters(filter.clone()).max_results(PAGE);
                request.set_next_token(token.clone()).send()
            });
            let answer = answer.await?;
            let machines = answer.reservations().iter().flat_map(|reservation| reservation.instances());
            found.extend(machines.filter_map(answers::found));
            token = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    async fn terminate(&self, machines: &[String]) -> Result<(), ApiError> {
        let answer = self.call(|client| client.terminate_instances().set_instance_ids(Some(machines.to_vec())).send());
        answer.await.map(|_| ())
    }

    async fn spot_prices(&self, types: &[String]) -> Result<Vec<SpotPrice>, ApiError> {
        let types: Vec<InstanceType> = types.iter().map(|name| InstanceType::from(name.as_str())).collect();
        // Asked from now on, the history is the price that holds now.
        let now = DateTime::from(SystemTime::now());
        let mut prices = Vec::new();
        let mut token = None;
        loop {
            let answer = self.call(|client| {
                let request = client.describe_spot_price_history().set_instance_types(Some(types.clone()));
                let request = request.product_descriptions(LINUX).start_time(now).max_results(PAGE);
                request.set_next_token(token.clone()).send()
            });
            let answer = answer.await?;
            prices.extend(answer.spot_price_history().iter().filter_map(answers::price));
            token = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if token.is_none() {
                return Ok(prices);
            }
        }
    }
}

fn id_or_name(template: &Template) -> (Option<String>, Option<String>) {
    if template.is_id() { (Some(template.name.clone()), None) } else { (None, Some(template.name.clone())) }
}

fn unreadable(what: &str) -> ApiError {
    ApiError { cause: coordinator_aws::Cause::Unanswered, message: format!("EC2 answered with {what}") }
}
