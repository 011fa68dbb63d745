-- Run once by the image, when it makes an empty cluster. Users and permissions are migrated apart from runs.
CREATE DATABASE mlflow_auth;
