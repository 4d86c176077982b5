"""`kiebot doctor` and `kiebot jobs`, as operators use them."""

from __future__ import annotations

from tests.scenarios.console import Run
from tests.scenarios.world import World

NOWHERE = "127.0.0.1:1"


def states(said: object) -> dict[str, str]:
    assert isinstance(said, list)
    return {each["what"]: each["state"] for each in said}


async def test_the_doctor_finds_nothing_wrong_where_all_is_well(world: World, kiebot: Run) -> None:
    world.kie.set_credits(5000)
    said = await kiebot("doctor", "--json", ADMIN_IDS="7", PUBLIC_URL="https://shop.example.org", PORT="8080")
    assert (said.status, set(states(said.json).values())) == (0, {"ok"})
    assert set(states(said.json)) == {
        *("settings", "postgres", "clock", "redis", "lease", "telegram", "webhook", "kie", "public_url", "admins")
    }


async def test_the_doctor_names_every_trouble_with_its_fix_and_no_secret(world: World, kiebot: Run) -> None:
    world.tg.revoke()
    world.kie.set_credits(0)
    said = await kiebot(
        "doctor",
        DATABASE_URL=f"postgresql://kiebot:canary-secret@{NOWHERE}/kiebot",
        REDIS_URL=f"redis://:canary-secret@{NOWHERE}/0",
    )
    assert said.status == 1
    failed = {line.split()[1] for line in said.out.splitlines() if line.startswith("fail")}
    assert failed == {"postgres", "redis", "lease", "telegram", "kie"}
    assert said.out.count("fix:") >= len(failed)
    for secret in ("canary-secret", world.tg.token.partition(":")[2], world.kie.api_key):
        assert secret not in said.out + said.error


async def test_the_doctor_names_wrong_settings_and_a_refused_key(world: World, kiebot: Run) -> None:
    said = await kiebot("doctor", ADMIN_IDS="me", MARKUP="-1")
    assert said.status == 1
    assert "ADMIN_IDS" in said.out
    assert "MARKUP" in said.out
    refused = await kiebot("doctor", "--json", KIE_API_KEY="another-key")
    assert (refused.status, states(refused.json)["kie"]) == (1, "fail")


async def test_jobs_are_listed_shown_retried_and_buried(world: World, kiebot: Run) -> None:
    await world.execute("INSERT INTO lanes (key) VALUES ('1/5')")
    await world.execute(
        "INSERT INTO inbox (bot_id, update_id, lane, payload, attempts, done_at)"
        " VALUES (1, 9, '1/5', 'my own words', 5, now())"
    )
    await world.execute(
        "INSERT INTO dead_letters (kind, source_id, payload, reason) VALUES"
        " ('update', 1, 'my own words', 'boom'), ('update', 99, 'forgotten', 'bang')"
    )
    listed = (await kiebot("jobs", "list", "--json")).json
    assert [each["reason"] for each in listed["dead_letters"]] == ["bang", "boom"]
    assert "L1       update" in (await kiebot("jobs", "list")).out
    shown = await kiebot("jobs", "show", "L1")
    assert "boom" in shown.out
    assert "my own words" not in shown.out
    assert "my own words" in (await kiebot("jobs", "show", "L1", "--payload")).out

    assert (await kiebot("jobs", "retry", "L1", "--dry-run")).out == "dry run: dead letter 1 is worked off again\n"
    assert await world.scalar("SELECT done_at IS NOT NULL FROM inbox")
    assert (await kiebot("jobs", "retry", "L1", "--actor", "ann")).status == 0
    assert await world.scalar("SELECT done_at IS NULL FROM inbox")
    gone = await kiebot("jobs", "retry", "L2")
    assert (gone.status, "forgotten by now" in gone.error) == (1, True)
    assert (await kiebot("jobs", "bury", "L2")).status == 2  # no reason
    assert (await kiebot("jobs", "bury", "L2", "--reason", "old", "--actor", "ann")).status == 0
    assert (await kiebot("jobs", "list", "--json")).json == {"generations": [], "dead_letters": []}
    assert await world.rows("SELECT actor, action, subject FROM audit ORDER BY id") == [
        ("ann", "letter.retry", "1"),
        ("ann", "letter.bury", "2"),
    ]


async def test_names_that_mean_nothing_are_told(kiebot: Run) -> None:
    assert (await kiebot("jobs", "show", "x17")).status == 2
    for name, words in (("17", "no such generation"), ("L17", "no such open dead letter")):
        for command in (("show", name), ("retry", name), ("bury", name, "--reason", "r")):
            said = await kiebot("jobs", *command)
            assert (said.status, words in said.error) == (1, True)


async def test_the_catalogue_is_compared_with_the_makers_own(world: World, kiebot: Run) -> None:
    said = await kiebot("models", "refresh", "z-image", "--json")
    assert (said.status, said.json["gone"], said.json["different"]) == (0, [], {})
    assert said.json["listed"] > 80
    unknown = await kiebot("models", "refresh", "no-such-model")
    assert (unknown.status, "no such model on sale" in unknown.error) == (1, True)
