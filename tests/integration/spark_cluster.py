"""A Spark cluster of two workers on hosts of their own, from public packages only."""

import sys
from contextlib import AbstractContextManager
from pathlib import Path

from tests.integration import hosts
from tests.integration.hosts import ADDRESS, JAVA, fetched
from tests.waiting import wait_for

MASTER = f"spark://{ADDRESS}:7077"
SPARK = "3.5.3"
# The source distribution holds the jars; pip is there wherever the tests were installed. What Beam
# does not use is left out, since every job sends all jars, and of guava Spark's is too old for it.
_FETCH = f"""
pip="{sys.executable} -m pip --disable-pip-version-check download --no-deps --no-binary=:all:"
$pip -d . pyspark=={SPARK} && mkdir -p spark &&
tar xzf pyspark-{SPARK}.tar.gz -C spark --strip-components=2 pyspark-{SPARK}/deps/jars &&
rm pyspark-{SPARK}.tar.gz slf4j-*.jar commons-io-*.jar && cd spark/jars &&
rm arpack* arrow* breeze* cats* datanucleus* derby* guava* hive* kubernetes* mesos* orc* parquet* &&
rm rocksdbjni* scala-compiler* spark-hive* spark-kubernetes* spark-mesos* spark-mllib* spire* &&
mv ../../guava-*.jar ../../failureaccess-*.jar .
"""


class Cluster(hosts.Cluster):
    """The cluster: `master`, `worker1`, `pool1` and so on."""

    def __init__(self, folder: Path) -> None:
        jars = fetched("spark-3", "sh", "-ec", _FETCH)
        self._spark = sorted((jars / "spark" / "jars").glob("*.jar"))
        whole = [*sorted(jars.glob("*.jar")), *self._spark]
        super().__init__(folder, whole, "org.apache.beam.runners.spark.SparkJobServerDriver")
        self._home = jars / "spark"

    def command(self, name: str) -> list[str]:
        """Master and workers."""
        environ = ["env", f"SPARK_HOME={self._home}", "SPARK_SCALA_VERSION=2.12"]
        words = [*environ, *JAVA, "-cp", ":".join(map(str, self._spark))]
        if name == "master":
            ports = ["--host", ADDRESS, "--port", "7077", "--webui-port", "8080"]
            return [*words, "org.apache.spark.deploy.master.Master", *ports]
        where = ["--host", f"{ADDRESS}{name[-1]}", "--work-dir", str(self.folder / name)]
        size = ["--cores", "2", "--memory", "1g"]
        return [*words, "org.apache.spark.deploy.worker.Worker", *where, *size, MASTER]

    def apps(self) -> dict[str, list[str]]:
        """The names of applications that the master knows, `active` and `completed`."""
        found = self.ask(8080, "json/") or {}
        return {
            state: [app["name"] for app in found.get(f"{state}apps", [])]
            for state in ("active", "completed")
        }

    def wait_until_ready(self) -> None:
        """Waits for both workers, with nothing to do."""

        def ready() -> bool:
            found = self.ask(8080, "json/") or {}
            alive = [w for w in found.get("workers", []) if w["state"] == "ALIVE"]
            return len(alive) == 2 and not found["activeapps"]

        wait_for(ready)


def running(folder: Path) -> AbstractContextManager[Cluster]:
    """The whole cluster, ready."""
    return hosts.running(lambda: Cluster(folder), ("master", "worker1", "worker2"))
