"""Publishing, against a real Caddy."""

import asyncio
import shutil
import signal
from pathlib import Path

import httpx
import pytest

from domain.errors import DeploymentError, ErrorCode
from providers.base import Build, RemovedEnvironment
from providers.internal.builds import BuildDirectory
from providers.internal.edge import ANSWERED_BY, Edge, check_directory
from providers.internal.limits import Limits
from providers.internal.provider import Internal
from tests.providers.conftest import ANY_REQUEST, MakeInternal, build_request, running_edge
from tests.servers import free_port

SITE = {
    "index.html": "home",
    "about.html": "about",
    "docs/index.html": "docs",
    "404.html": "own 404",
    ".env": "hidden",
    ".well-known/security.txt": "contact",
}


async def get(edge: Edge, url: str, path: str = "") -> httpx.Response:
    """As a browser would; the name itself is not looked up."""
    host = httpx.URL(url).netloc.decode()
    async with httpx.AsyncClient() as http:
        return await http.get(f"{edge.public_url}/{path}", headers={"Host": host})


def admin(edge: Edge) -> httpx.AsyncClient:
    once = httpx.Limits(max_keepalive_connections=0)
    transport = httpx.AsyncHTTPTransport(uds=edge.admin_socket, limits=once)
    return httpx.AsyncClient(base_url="http://127.0.0.1", transport=transport)


def release(internal: Internal, files: dict[str, str], project: str = "shop") -> Build:
    """A build that has ended well, without building."""
    request = build_request("http://unused.example/x", project=project)
    output = internal.root / f"output-{request.deployment_id}"
    for name, text in files.items():
        path = output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    internal.releases.add(request, output, Limits(), lambda: None)
    return Build(
        deployment_id=request.deployment_id,
        project_id=project,
        environment=request.environment,
        build_id=request.deployment_id,
        task_queue=internal.task_queue,
    )


@pytest.fixture
async def published(internal: Internal) -> tuple[Build, str]:
    built = release(internal, SITE)
    publication = await internal.publish_build(ANY_REQUEST, built)
    assert publication.deployment_url
    return built, publication.deployment_url


async def test_a_site_is_reached_at_its_environments_and_its_deployments_host(internal: Internal, edge: Edge) -> None:
    built = release(internal, SITE)

    publication = await internal.publish_build(ANY_REQUEST, built)

    port = httpx.URL(edge.public_url).port
    assert publication.deployment_url == f"http://production.shop.localhost:{port}/"
    assert publication.preview_urls == [f"http://{built.deployment_id}.localhost:{port}/"]
    for url in (publication.deployment_url, *publication.preview_urls):
        assert (await get(edge, url)).text == "home"
    assert [(line.step, line.source) for line in publication.lines] == [("publish", "deploy")] * 2


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("", 200, "home"),
        ("about", 200, "about"),
        ("about.html", 200, "about"),
        ("docs/", 200, "docs"),
        ("nothing", 404, "own 404"),
        (".env", 404, "own 404"),
        ("%2eenv", 404, "own 404"),
        ("docs/%2e%2e/.env", 404, "own 404"),
        ("../../release.json", 404, "own 404"),
        ("%2e%2e/release.json", 404, "own 404"),
        ("..%2frelease.json", 404, "own 404"),
        (".well-known/security.txt", 200, "contact"),
    ],
)
async def test_paths(edge: Edge, published: tuple[Build, str], path: str, status: int, text: str) -> None:
    answer = await get(edge, published[1], path)

    assert (answer.status_code, answer.text) == (status, text)
    assert answer.headers[ANSWERED_BY] == published[0].deployment_id


async def test_a_directory_leads_to_its_index_and_files_have_etags(edge: Edge, published: tuple[Build, str]) -> None:
    directory = await get(edge, published[1], "docs")
    home = await get(edge, published[1])

    assert (directory.status_code, directory.headers["Location"]) == (308, "/docs/")
    assert home.headers["ETag"]
    assert "max-age=0" in home.headers["Cache-Control"]


async def test_an_unknown_host_is_not_found(edge: Edge, published: tuple[Build, str]) -> None:
    assert (await get(edge, "http://nobody.localhost/")).status_code == 404


async def test_an_older_release_is_restored_by_publishing_it_again(internal: Internal, edge: Edge) -> None:
    old, new = release(internal, {"index.html": "old"}), release(internal, {"index.html": "new"})

    seen = []
    for chosen in (old, new, old):
        url = (await internal.publish_build(ANY_REQUEST, chosen)).deployment_url or ""
        seen.append((await get(edge, url)).text)

    assert seen == ["old", "new", "old"]


async def test_a_release_that_is_gone_cannot_be_published(internal: Internal, published: tuple[Build, str]) -> None:
    internal.releases.remove(published[0].deployment_id)

    with pytest.raises(DeploymentError) as refused:
        await internal.publish_build(ANY_REQUEST, published[0])

    assert refused.value.code == ErrorCode.DEPLOY_FAILED


async def test_what_a_deleted_environment_had_live_is_taken_down_and_nothing_else(
    internal: Internal, edge: Edge
) -> None:
    gone, newer, other = (release(internal, {"index.html": name}) for name in ("gone", "newer", "other"))
    other = other.model_copy(update={"environment": "staging"})
    publications = [await internal.publish_build(ANY_REQUEST, built) for built in (gone, newer, other)]
    removed = RemovedEnvironment(
        project_id="shop", environment="production", deployment_ids=[gone.deployment_id, other.deployment_id]
    )
    for _ in range(2):  # as after a kill
        await internal.take_down(removed)

    async def statuses() -> list[list[int]]:
        return [
            [(await get(edge, url)).status_code for url in (one.deployment_url or "", *one.preview_urls)]
            for one in publications
        ]

    # The host of the environment serves another one's release by now; a release that another environment serves stays.
    assert await statuses() == [[200, 404], [200, 200], [200, 200]]
    assert [r.deployment_id for r in internal.releases.all()] == sorted([newer.deployment_id, other.deployment_id])
    with pytest.raises(DeploymentError):
        await internal.publish_build(ANY_REQUEST, gone)


async def test_a_build_that_somebody_is_on_is_taken_down_later(internal: Internal) -> None:
    request = build_request("http://unused.example/x")
    directory = BuildDirectory(internal.root / "builds" / request.deployment_id)
    directory.create(request)
    removed = RemovedEnvironment(project_id="shop", environment="production", deployment_ids=[request.deployment_id])
    with directory.lock(), pytest.raises(DeploymentError) as busy:
        await internal.take_down(removed)
    assert busy.value.retryable
    assert directory.path.exists()
    await internal.take_down(removed)
    assert not directory.path.exists()


async def test_sites_published_at_once_are_all_there(make_internal: MakeInternal, edge: Edge) -> None:
    """By several workers of this host, each with its own connection to the edge."""
    first = make_internal()
    edges = [Edge(f"unix/{edge.admin_socket}", edge.public_url) for _ in range(3)]
    workers = [Internal(first.root, each, task_queue="q", allow_private_addresses=True) for each in edges]
    built = [release(first, {"index.html": "hello"}, f"shop-{n}") for n in range(6)]

    publications = await asyncio.gather(
        *(workers[n % 3].publish_build(ANY_REQUEST, each) for n, each in enumerate(built))
    )
    for each in edges:
        await each.close()

    for publication in publications:
        for url in (publication.deployment_url or "", *publication.preview_urls):
            assert (await get(edge, url)).text == "hello"


async def test_an_edge_that_was_restarted_serves_at_once(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as (edge, caddy):
        internal = Internal(tmp_path / "data", edge, task_queue="q", allow_private_addresses=True)
        built = release(internal, SITE)
        url = (await internal.publish_build(ANY_REQUEST, built)).deployment_url or ""
        caddy.send_signal(signal.SIGKILL)
        await caddy.wait()
        with pytest.raises(DeploymentError) as away:
            await internal.restore_sites()

    async with running_edge(tmp_path) as (edge, _):
        internal.edge = edge
        assert (await get(edge, url)).text == "home"
        assert not await internal.restore_sites()

    assert away.value.code == ErrorCode.PROVIDER_ERROR


async def test_an_edge_and_a_disk_of_before_serve_their_sites_without_a_new_publication(
    internal: Internal, edge: Edge, published: tuple[Build, str]
) -> None:
    """Of a time when a host was a route, and there was no directory of hosts."""
    shutil.rmtree(internal.hosts.root)
    files = internal.releases.files(published[0].deployment_id)
    serve = {"handler": "file_server", "root": str(files)}
    route = {"@id": "site-x", "match": [{"host": ["production.shop.localhost"]}], "handle": [serve], "terminal": True}
    async with admin(edge) as asked:
        (await asked.patch("/config/apps/http/servers/headway/routes", json=[route])).raise_for_status()
        assert ANSWERED_BY not in (await get(edge, published[1])).headers

        assert await internal.restore_sites()
        assert not await internal.restore_sites()

        assert (await get(edge, published[1])).headers[ANSWERED_BY] == published[0].deployment_id
        assert "site-x" not in (await asked.get("/config/")).text


async def test_an_edge_that_lost_its_whole_configuration_gets_it_back(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as (edge, _):
        internal = Internal(tmp_path / "data", edge, task_queue="q", allow_private_addresses=True)
        built = release(internal, SITE)
        async with admin(edge) as asked:
            await asked.delete("/config/apps")

        url = (await internal.publish_build(ANY_REQUEST, built)).deployment_url or ""

        assert (await get(edge, url)).text == "home"


async def test_an_edge_that_answers_wrongly_fails_the_publication_and_nothing_is_written_down(
    make_internal: MakeInternal, edge: Edge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("providers.internal.edge._PATIENCE_SECONDS", 0.3)
    internal = make_internal()
    built = release(internal, SITE)
    async with running_edge(tmp_path / "other") as (other, _):
        elsewhere = Edge(f"unix/{edge.admin_socket}", other.public_url)
        internal.edge = elsewhere
        with pytest.raises(DeploymentError) as failed:
            await internal.publish_build(ANY_REQUEST, built)
        await elsewhere.close()

    assert failed.value.code == ErrorCode.DEPLOY_FAILED
    assert internal.sites.all() == []
    assert (await get(edge, f"http://{built.deployment_id}.localhost/")).status_code == 404


async def test_an_edge_that_is_away_when_it_is_asked_is_waited_for(
    make_internal: MakeInternal, edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("providers.internal.edge._PATIENCE_SECONDS", 0.3)
    internal = make_internal()
    built = release(internal, SITE)
    internal.edge = Edge(f"unix/{edge.admin_socket}", f"http://127.0.0.1:{free_port()}")

    with pytest.raises(DeploymentError) as away:
        await internal.publish_build(ANY_REQUEST, built)
    await internal.edge.close()

    assert (away.value.code, away.value.retryable) == (ErrorCode.PROVIDER_ERROR, True)
    assert internal.sites.all() == []
    internal.edge = edge
    url = (await internal.publish_build(ANY_REQUEST, built)).deployment_url or ""
    assert (await get(edge, url)).text == "home"


async def test_names_of_hosts_are_the_same_in_any_case(edge: Edge, published: tuple[Build, str]) -> None:
    for host in ("Production.Shop.LOCALHOST", f"{published[0].deployment_id.upper()}.localhost:8081"):
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{edge.public_url}/about", headers={"Host": host})
        assert (answer.status_code, answer.text) == (200, "about")


async def test_a_directory_is_served_from_or_refused_whatever_its_name(tmp_path: Path) -> None:
    directory = tmp_path / 'it\'s a "$x" ~ %41 é'
    check_directory(directory)
    async with running_edge(directory) as (edge, _):
        internal = Internal(directory / "data", edge, task_queue="q", allow_private_addresses=True)
        url = (await internal.publish_build(ANY_REQUEST, release(internal, SITE))).deployment_url or ""
        assert (await get(edge, url, "about")).text == "about"
    for bad in ("a*", "a?", "[a]", "a]", "{a}", "a\\b", "a\nb"):
        with pytest.raises(DeploymentError, match="accepted is a path without"):
            check_directory(tmp_path / bad / "data")
