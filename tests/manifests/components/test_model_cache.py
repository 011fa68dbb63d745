"""Where models come from: model-cache, local-model-cache."""


def test_the_job_reaches_hubs_and_nothing_in_the_cluster(compose, pick):
    objects = compose("model-cache")
    [rule] = pick(objects, "NetworkPolicy", "model-preload")["spec"]["egress"]
    [block] = (to["ipBlock"] for to in rule["to"])
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"} <= set(block["except"])
    assert [port["port"] for port in rule["ports"]] == [443]
    selector = pick(objects, "NetworkPolicy", "model-preload")["spec"]["podSelector"]
    labels = pick(objects, "Job")["spec"]["template"]["metadata"]["labels"]
    assert selector["matchLabels"].items() <= labels.items()


def test_the_cache_of_a_node_is_that_of_the_served_address(compose, pick):
    objects = compose("local-model-cache")
    source = pick(objects, "LocalModelCache")["spec"]["sourceModelUri"]
    model = pick(objects, "InferenceService")["spec"]["predictor"]["model"]
    assert model["storageUri"] == source
    assert pick(objects, "LocalModelCache")["spec"]["nodeGroups"] == [
        pick(objects, "LocalModelNodeGroup")["metadata"]["name"]
    ]
