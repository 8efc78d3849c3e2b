"""The policies of docs/stores.md, tried: jobs pass with them, and with one permission less, one of them says which."""

import json
import os
import pathlib
import re
import subprocess
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

import boto3
import forked
import pytest
from services.object_stores import S3, running

from penstock.io.files import stores

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::ResourceWarning")]

_PAGE = pathlib.Path(__file__).parents[2] / "docs" / "stores.md"
_OBJECTS = "arn:aws:s3:::BUCKET/*"
ROWS = "".join(f"{i},name {i % 7}\n" for i in range(1000))


def policies() -> dict[str, Any]:
    """What the page has: a policy to read, and one to write."""
    found = [
        json.loads(text) for text in re.findall(r"^```json\n(\{.*?)^```$", _PAGE.read_text(), re.MULTILINE | re.DOTALL)
    ]
    (reading,), (writing,) = (
        [policy for policy in found if wanted in str(policy)] for wanted in ("Reading", "Writing")
    )
    return {"read": reading, "write": writing}


def statement_actions(policy: Mapping[str, Any]) -> list[str]:
    return [action for statement in policy["Statement"] for action in statement["Action"]]


def without(policy: Mapping[str, Any], action: str) -> dict[str, Any]:
    """The policy with one permission less."""
    statements = [{**one, "Action": [name for name in one["Action"] if name != action]} for one in policy["Statement"]]
    return {**policy, "Statement": [one for one in statements if one["Action"]]}


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    """A store that looks at permissions, with a bucket, an input, a dataset, and a user for each policy."""
    with running(S3(tmp_path_factory.mktemp("s3"))) as store:
        bucket = store.new_bucket()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in bucket.env.items():
                patch.setenv(name, value)
            stores.write_file(f"{bucket.url}/in/a.csv", f"id,name\n{ROWS}".encode())
            stores.write_file(f"{bucket.url}/in/b.csv", f"id,name\n{ROWS}".encode())
            iam = boto3.client("iam", endpoint_url=store.endpoint)

            def user(policy: Mapping[str, Any]) -> dict[str, str]:
                name = f"user-{len(iam.list_users()['Users'])}"
                iam.create_user(UserName=name)
                # Of a request that deletes many objects, moto asks for the permission of the bucket too; S3 does not.
                both = f'["{_OBJECTS}", "{_OBJECTS.removesuffix("/*")}"]'
                document = json.dumps(policy).replace(f'"{_OBJECTS}"', both).replace("BUCKET", bucket.bucket)
                iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=document)
                key = iam.create_access_key(UserName=name)["AccessKey"]
                own = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
                return {**bucket.env, **own}

            found = policies()
            less = {
                (kind, action): user(without(policy, action))
                for kind, policy in found.items()
                for action in statement_actions(policy)
            }
            users = {kind: user(policy) for kind, policy in found.items()}
        request = urllib.request.Request(f"{store.endpoint}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"})
        with urllib.request.urlopen(request, timeout=30):  # from now on permissions count
            pass
        yield bucket.url, users, less


@pytest.fixture
def run() -> Run:
    def run_as(env: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
        return forked.run(["-m", "penstock", *arguments], env=os.environ | env, timeout=300)

    return run_as


def writing(url: str, output: str) -> list[tuple[str, ...]]:
    """Jobs that need each permission to write: into a new folder, over it, and what a killed run left."""
    prepare = ("prepare", "--input", f"{url}/in/*.csv", "--output", f"{url}/{output}", "--num_shards", "2")
    return [
        prepare,
        (*prepare, "--overwrite"),
        ("verify", "--dataset", f"{url}/{output}", "--clean", "--clean_age", "0s"),
    ]


def test_policies_suffice(account, run, tmp_path):
    url, users, _ = account
    for job in writing(url, "out"):
        done = run(users["write"], *job)
        assert done.returncode == 0, done.stderr
    for job in [
        ("prepare", "--input", f"{url}/in/*.csv", "--output", str(tmp_path / "local")),
        ("profile", "--input", f"{url}/in/*.csv", "--output", str(tmp_path / "profile")),
        ("verify", "--dataset", f"{url}/out"),
        ("status", "--output", f"{url}/out"),
    ]:
        done = run(users["read"], *job)
        assert done.returncode == 0, done.stderr


def test_whoever_reads_cannot_write(account, run):
    url, users, _ = account
    done = run(users["read"], *writing(url, "denied")[0])
    assert done.returncode == 2
    assert "s3:PutObject" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", ["read", "write"])
def test_no_permission_is_too_much(account, run, tmp_path, kind):
    url, _, less = account
    tried = {action: env for (of, action), env in less.items() if of == kind}
    assert tried
    for action, env in tried.items():
        output = f"less-{kind}-{action.partition(':')[2]}"
        profile = ("profile", "--input", f"{url}/in/*.csv", "--output", str(tmp_path / output))
        jobs = [profile] if kind == "read" else writing(url, output)
        failed = next((done for job in jobs if (done := run(env, *job)).returncode), None)
        assert failed, f"all jobs succeed without {action}"
        assert action in failed.stderr
        assert "Traceback" not in failed.stderr
