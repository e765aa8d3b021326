-- Runs once, on an empty volume: Headway and Temporal get a role and databases of their own in one server.
\getenv headway_password HEADWAY_DATABASE_PASSWORD
\getenv temporal_password TEMPORAL_DATABASE_PASSWORD

create role headway login password :'headway_password';
create role temporal login password :'temporal_password';

create database headway owner headway;
create database temporal owner temporal;
create database temporal_visibility owner temporal;

revoke connect on database headway, temporal, temporal_visibility from public;
