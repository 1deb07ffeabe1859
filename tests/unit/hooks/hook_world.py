"""The token, the app and the ad accounts of the hooks' tests."""

TOKEN = "EAABunitTokenOfNobody0123456789abcdef"
SECRET = "unit0secret0of0nobody0123456789a"
ACCOUNT = "100000000000001"
OTHER_ACCOUNT = "100000000000002"
