"""Variables and secrets, written into the account's environment variables of the site, for the context that builds.

Rules:
1. What is there for other contexts stays as it is.
2. Secrets are made as such, which nobody can read again (`is_secret`). One that was there before stays what it was.
"""

from typing import Any

from domain.build import BuildRequest
from providers.netlify.api import PRODUCTION, TOKEN, Api
from providers.netlify.calls import ADD_VARIABLES, LIST_VARIABLES, SET_VARIABLE, Value, Variable
from providers.netlify.settings import Settings

NOT_HANDED_OVER = (
    "variables and secrets are not handed over: netlify keeps them in an account, and providerSettings has no accountId"
)


def are_left_out(request: BuildRequest, settings: Settings) -> bool:
    return settings.mode == "git" and settings.account_id is None and bool(_values(request))


async def set_variables(api: Api, request: BuildRequest) -> None:
    values = _values(request)
    if not values or api.settings.account_id is None:
        return
    site = {"site_id": api.settings.site_id}
    there = {variable.key: variable for variable in (await api.call(LIST_VARIABLES, params=site)).read(list[Variable])}
    where = (
        {"context": PRODUCTION} if api.production else {"context": "branch", "context_parameter": request.source_ref}
    )
    new: list[dict[str, Any]] = []
    for key, value in sorted(values.items()):
        wanted = {**where, "value": value}
        if key not in there:
            new.append({"key": key, "is_secret": key in request.secrets, "values": [wanted]})
        elif Value(**wanted) not in (there[key].values or []):
            await api.call(SET_VARIABLE, key=key, params=site, json=wanted)
    if new:
        await api.call(ADD_VARIABLES, params=site, json=new)


def _values(request: BuildRequest) -> dict[str, str]:
    both = {**request.configuration.environment_variables, **request.secrets}
    return {name: value for name, value in both.items() if name != TOKEN}
