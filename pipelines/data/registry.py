"""Every public data set that can be adapted, by name."""

from pipelines.data.adapter import Adapter, InvalidDataset
from pipelines.data.adapters import (
    aishell1,
    casia,
    common_voice,
    crema_d,
    esc50,
    esd,
    iemocap,
    librispeech,
    meld,
    wenetspeech,
)

ADAPTERS: dict[str, Adapter] = {
    module.ADAPTER.name: module.ADAPTER
    for module in (
        aishell1,
        librispeech,
        common_voice,
        wenetspeech,
        casia,
        crema_d,
        esd,
        iemocap,
        meld,
        esc50,
    )
}


def find(name: str) -> Adapter:
    """Raises:
    InvalidDataset: no set of that name.
    """
    if name not in ADAPTERS:
        raise InvalidDataset(f"no data set {name!r}; there are {', '.join(ADAPTERS)}")
    return ADAPTERS[name]
