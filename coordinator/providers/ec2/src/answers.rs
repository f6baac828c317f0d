//! The SDK's types to the provider's and back. What lacks something that the API always gives is left out.

use aws_sdk_ec2::operation::create_fleet::CreateFleetOutput;
use aws_sdk_ec2::operation::create_fleet::builders::CreateFleetFluentBuilder;
use aws_sdk_ec2::types::{
    self, DefaultTargetCapacityType, FleetLaunchTemplateConfigRequest, FleetLaunchTemplateOverridesRequest,
    FleetLaunchTemplateSpecificationRequest, FleetOnDemandAllocationStrategy, FleetType, Instance,
    InstanceLifecycleType, InstanceStateName, InstanceType, OnDemandOptionsRequest, ResourceType,
    SpotAllocationStrategy, SpotInstanceInterruptionBehavior, SpotOptionsRequest, Tag, TagSpecification,
    TargetCapacitySpecificationRequest,
};
use coordinator_aws::{ApiError, Bought, Fleet, FleetAnswer, Found, MachineState, SpotPrice, Subnet};
use coordinator_core::{Market, Timestamp};

pub(crate) fn subnet(subnet: &types::Subnet) -> Option<Subnet> {
    Some(Subnet { id: subnet.subnet_id()?.to_owned(), zone: subnet.availability_zone()?.to_owned() })
}

pub(crate) fn price(price: &types::SpotPrice) -> Option<SpotPrice> {
    Some(SpotPrice {
        instance_type: price.instance_type()?.as_str().to_owned(),
        zone: price.availability_zone()?.to_owned(),
        usd_per_hour: price.spot_price()?.parse().ok().filter(|usd: &f64| usd.is_finite() && *usd >= 0.0)?,
    })
}

pub(crate) fn found(instance: &Instance) -> Option<Found> {
    let tag = |tag: &Tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()));
    let spot = instance.instance_lifecycle() == Some(&InstanceLifecycleType::Spot);
    Some(Found {
        machine: instance.instance_id()?.to_owned(),
        instance_type: instance.instance_type()?.as_str().to_owned(),
        zone: instance.placement()?.availability_zone()?.to_owned(),
        market: if spot { Market::Spot } else { Market::OnDemand },
        launched: instance.launch_time().and_then(|time| time.to_millis().ok()).map(Timestamp),
        state: match instance.state()?.name()? {
            InstanceStateName::Pending => MachineState::Pending,
            InstanceStateName::ShuttingDown | InstanceStateName::Terminated => MachineState::Ended,
            InstanceStateName::Stopping | InstanceStateName::Stopped => MachineState::Stopped,
            _ => MachineState::Running,
        },
        state_reason: instance.state_reason().and_then(|reason| reason.code()).unwrap_or_default().to_owned(),
        tags: instance.tags().iter().filter_map(tag).collect(),
    })
}

/// One instance at once, of whatever type and in whatever subnet it is least likely to be taken for its price.
pub(crate) fn fill_fleet(
    request: CreateFleetFluentBuilder,
    fleet: &Fleet,
    (id, name): (Option<String>, Option<String>),
) -> CreateFleetFluentBuilder {
    let template = FleetLaunchTemplateSpecificationRequest::builder()
        .set_launch_template_id(id)
        .set_launch_template_name(name)
        .version(&fleet.template.version)
        .build();
    let places = fleet.types.iter().flat_map(|kind| fleet.subnets.iter().map(move |subnet| (kind, subnet)));
    let overrides = places.map(|(kind, subnet)| {
        let kind = InstanceType::from(kind.as_str());
        FleetLaunchTemplateOverridesRequest::builder().instance_type(kind).subnet_id(subnet).build()
    });
    let config = FleetLaunchTemplateConfigRequest::builder()
        .launch_template_specification(template)
        .set_overrides(Some(overrides.collect()))
        .build();
    let request = request.r#type(FleetType::Instant).launch_template_configs(config);
    let capacity = TargetCapacitySpecificationRequest::builder().total_target_capacity(1);
    let request = if fleet.market == Market::Spot {
        let options = SpotOptionsRequest::builder()
            .allocation_strategy(SpotAllocationStrategy::PriceCapacityOptimized)
            .instance_interruption_behavior(SpotInstanceInterruptionBehavior::Terminate);
        let capacity = capacity.default_target_capacity_type(DefaultTargetCapacityType::Spot);
        request.spot_options(options.build()).target_capacity_specification(capacity.build())
    } else {
        let options =
            OnDemandOptionsRequest::builder().allocation_strategy(FleetOnDemandAllocationStrategy::LowestPrice);
        let capacity = capacity.default_target_capacity_type(DefaultTargetCapacityType::OnDemand);
        request.on_demand_options(options.build()).target_capacity_specification(capacity.build())
    };
    let tags: Vec<Tag> = fleet.tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
    [ResourceType::Fleet, ResourceType::Instance].into_iter().fold(request, |request, kind| {
        let tagged = TagSpecification::builder().resource_type(kind).set_tags(Some(tags.clone()));
        request.tag_specifications(tagged.build())
    })
}

pub(crate) fn fleet(answer: &CreateFleetOutput) -> FleetAnswer {
    let bought = answer.instances().iter().find_map(|instances| {
        let machine = instances.instance_ids().first()?.clone();
        let instance_type = instances.instance_type()?.as_str().to_owned();
        Some(Bought { machine, instance_type })
    });
    let error = |error: &types::CreateFleetError| {
        Some(ApiError::answered(error.error_code()?, 200, error.error_message().unwrap_or_default()))
    };
    FleetAnswer { bought, errors: answer.errors().iter().filter_map(error).collect() }
}
