import pytest

from predictor.ui.settings import Settings


def test_variables_have_a_prefix_of_their_own(monkeypatch):
    monkeypatch.setenv("SENSEVOICE_UI_SERVICE_URL", "http://sensevoice.example/")
    monkeypatch.setenv("SENSEVOICE_UI_START_SECONDS", "45")
    settings = Settings.from_environment()
    assert settings.url == "http://sensevoice.example"
    assert settings.start_seconds == 45
    assert settings.http_port == 6006


def test_variables_of_a_kubernetes_service_do_no_harm(monkeypatch):
    """Of a Service called sensevoice-ui, as every pod of its namespace gets them."""
    for name, value in {
        "PORT": "tcp://10.0.0.1:6006",
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "6006",
        "PORT_6006_TCP_ADDR": "10.0.0.1",
    }.items():
        monkeypatch.setenv(f"SENSEVOICE_UI_{name}", value)
    assert Settings.from_environment().http_port == 6006


@pytest.mark.parametrize(
    ("name", "value"), [("SERVICE_URL", "localhost"), ("HTTP_PORT", "0"), ("START_SECONDS", "-1")]
)
def test_what_is_wrong_is_named(monkeypatch, capsys, name, value):
    monkeypatch.setenv(f"SENSEVOICE_UI_{name}", value)
    with pytest.raises(SystemExit):
        Settings.from_environment()
    assert f"SENSEVOICE_UI_{name}: " in capsys.readouterr().err
