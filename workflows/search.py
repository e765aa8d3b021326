"""The search attributes that operators find deployments by in Temporal's UI. The local stack registers these names."""

from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from domain.deployment import Deployment

PROJECT = SearchAttributeKey.for_keyword("HeadwayProject")
ENVIRONMENT = SearchAttributeKey.for_keyword("HeadwayEnvironment")
PROVIDER = SearchAttributeKey.for_keyword("HeadwayProvider")
STATUS = SearchAttributeKey.for_keyword("HeadwayStatus")
TRIGGER = SearchAttributeKey.for_keyword("HeadwayTrigger")

ALL = (PROJECT, ENVIRONMENT, PROVIDER, STATUS, TRIGGER)


def attributes_of(deployment: Deployment) -> TypedSearchAttributes:
    return TypedSearchAttributes(
        [
            SearchAttributePair(PROJECT, deployment.project_id),
            SearchAttributePair(ENVIRONMENT, deployment.configuration.environment),
            SearchAttributePair(PROVIDER, deployment.provider),
            SearchAttributePair(STATUS, str(deployment.status)),
            SearchAttributePair(TRIGGER, deployment.metadata.trigger),
        ]
    )
