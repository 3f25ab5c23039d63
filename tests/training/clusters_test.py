"""``--distributed`` finds the processes by the variables that SLURM, Open MPI and GKE set."""

import pytest
from jax._src import clusters
from jax._src.clusters import cloud_tpu_cluster

SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_NODELIST": "gpu[012-015]",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_NODES": "4",
}
OPEN_MPI = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
}


@pytest.mark.parametrize(
    "name, variables, host",
    [("SlurmCluster", SLURM, "gpu012"), ("OmpiCluster", OPEN_MPI, "10.96.0.1")],
)
def test_processes_are_found_by_the_scheduler_s_variables(monkeypatch, name, variables, host):
    """Process 5 of 8, and all agree on the first one's address."""
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    (cluster,) = [c for c in clusters.ClusterEnv._cluster_types if c.__name__ == name]
    assert cluster.is_env_present()
    assert cluster.get_process_count() == 8 and cluster.get_process_id() == 5
    assert cluster.get_local_process_id() == 1
    address = cluster.get_coordinator_address(timeout_secs=5, override_coordinator_port=None)
    assert address.rpartition(":")[0] == host and 1024 < int(address.rpartition(":")[2]) < 65536


def test_hosts_of_two_slices_are_found_by_what_gke_sets(monkeypatch):
    """Host 1 of the second slice of four hosts is process 5 of 8; the first slice has the first."""
    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    variables = {"TPU_WORKER_HOSTNAMES": "b-0,b-1,b-2,b-3", "TPU_WORKER_ID": "1"}
    variables |= {"MEGASCALE_NUM_SLICES": "2", "MEGASCALE_SLICE_ID": "1"}
    variables |= {"MEGASCALE_COORDINATOR_ADDRESS": "127.0.0.1:8080"}
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    cluster = cloud_tpu_cluster.GkeTpuCluster
    assert cluster in clusters.ClusterEnv._cluster_types and cluster.is_env_present()
    assert cluster.get_process_count() == 8 and cluster.get_process_id() == 5
    address = cluster.get_coordinator_address(timeout_secs=5, override_coordinator_port=None)
    assert address.startswith("127.0.0.1:")
